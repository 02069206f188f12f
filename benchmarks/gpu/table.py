"""The result as Markdown: every case with its figures, bars and error, and what could not be run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

__all__ = ["markdown", "summary"]

Cases = Sequence[dict[str, Any]]
_HEAD = ("us", "10-90 %", "TFLOP/s", "GB/s", "of the floor", "over", "must", "aim", "error")


def markdown(result: dict[str, Any]) -> str:
    """The whole report."""
    machine, limits = result["machine"], result["limits"]
    cases = [case for case in result["cases"] if "failed" not in case]
    failed = [case for case in result["cases"] if "failed" in case]
    parts = [
        f"# {machine['name']}, driver {machine['driver']}, torch {machine['torch']}",
        f"{result['date']}, {result['seconds']:.0f} s of `make gpu PART=bench`. Copy, reading and writing counted: "
        f"{limits['copy'] / 1e12:.2f} TB/s; dense bf16 product of 8192^3 random numbers: {limits['dense'] / 1e12:.0f} "
        "TFLOP/s. The floor of a case is the longer of what its bytes take at the one and its kept products at the "
        "other. Times are medians on the device, caches flushed, calls taking turns in one process; TFLOP/s count the "
        "dense product. *Over*: time of the other over ours. Errors are relative, against float64.",
        *(_group(group, [case for case in cases if case["group"] == group]) for group in _groups(cases)),
        _ceiling(result["ceiling"], cases),
        _absent(cases, failed, result["left"]),
        "Bars: " + ", ".join(f"{count} {state}" for state, count in sorted(summary(cases).items())) + ".",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(cases: Cases) -> Counter[str]:
    """How many bars are at each verdict."""
    return Counter(bar["verdict"] for case in cases for bar in case.get("bars", ()))


def _groups(cases: Cases) -> list[str]:
    return list(dict.fromkeys(case["group"] for case in cases))


def _group(group: str, cases: Cases) -> str:
    lines = [f"## {group}", "", "| case | " + " | ".join(_HEAD) + " |", "| --- |" + " ---: |" * len(_HEAD)]
    for case in cases:
        median, low, high = (seconds * 1e6 for seconds in case["seconds"]["ours"])
        over = "; ".join(_over(name, ratio, case) for name, ratio in case["ratios"].items())
        rate = f"{case['tflops']:.0f}" if case["tflops"] else "-"
        musts = "; ".join(f"{bar['against']} {bar['must']:g} *{bar['verdict']}*" for bar in case["bars"])
        aims = "; ".join(_aim(bar) for bar in case["bars"])
        figures = (
            f"{median:.1f}{_exposed('ours', case)}", f"{low:.1f}-{high:.1f}", rate, f"{case['gb_s']:.0f}",
            f"{case['of_floor']:.0%}", over, musts or "-", aims or "-", f"{case['errors']['ours']:.1e}",
        )  # fmt: skip
        lines.append(f"| {case['name']} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def _over(name: str, ratio: float, case: dict[str, Any]) -> str:
    """A ratio, with the error of the other where it computes the same."""
    errors = case["errors"]
    return f"{name} {ratio:.2f}{_exposed(name, case)}" + (f" (error {errors[name]:.0e})" if name in errors else "")


def _exposed(name: str, case: dict[str, Any]) -> str:
    """A mark on times that the host's is in, more often than not."""
    return " (host)" if case["exposed"].get(name, 0) > 0.5 else ""


def _aim(bar: dict[str, Any]) -> str:
    if bar["aim_us"] is not None:
        return f"{bar['aim_us']:g} us"
    return "-" if bar["aim"] is None else f"{bar['aim']:g}"


def _ceiling(rows: Cases, cases: Cases) -> str:
    """How fast the tensor cores go when only their operands are in the way, and the best 2:4 layer beside it."""
    if not rows:
        return ""
    lines = ["## Ceiling of the tensor cores", "", "| products | TFLOP/s, pruned places counted |", "| --- | ---: |"]
    lines += [f"| {row['name']} | {row['tflops'] or '-'} |" for row in rows]
    fed = [
        row["tflops"] for row in rows if row["name"].startswith("2:4") and "arriving" in row["name"] and row["tflops"]
    ]
    # Layers of bytes are left out: their products have twice the rate of those that were measured.
    ours = [case["tflops"] for case in cases if case["name"].startswith("bf16 2:4") and case.get("tflops")]
    if fed and ours:
        share = max(ours) / max(fed)
        reached = f"The best bf16 2:4 layer reaches {max(ours):.0f} TFLOP/s, {share:.0%} of the highest rate"
        lines += ["", f"{reached} with tiles arriving."]
    return "\n".join(lines)


def _absent(cases: Cases, failed: Cases, left: Sequence[str]) -> str:
    lines = [f"- {case['name']}: FAILED: {case['failed']}" for case in failed]
    lines += [f"- {case['name']}: {name}: {why}" for case in cases for name, why in case["absent"].items()]
    lines += [f"- {name}: no time was left" for name in left]
    return "## Not run\n\n" + "\n".join(lines) if lines else ""
