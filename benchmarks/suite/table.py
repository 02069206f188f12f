"""The result of a full run as Markdown: ratios beside their bars, memory-bound calls, cliffs, top-k, peers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import prefill
from cases import CALL_MOST_US, CLIFF_ROWS, CLIFF_SLACK, COLUMNS, ROWS, SMALL, TOPK, Bar, Row, column_of
from decode import decode_table

Points = Sequence[dict[str, Any]]
Result = dict[str, Any]


def markdown(result: Result, end_to_end: str) -> str:
    """The whole report."""
    machine, points = result["machine"], result["points"]
    threads = sorted({point["threads"] for point in points})
    parts = [
        f"# {machine['cpu']}, family {machine['family']} model {machine['model']}, {machine['isa']}, "
        f"{machine['cores']} cores",
        f"torch {machine['torch']}, {result['date']}; caches of a core: "
        + ", ".join(f"{name} {size // 1024} KiB" for name, size in machine["caches"].items())
        + f"; {result['minutes']:.0f} minutes of `make bench`.",
        _limits(result["limits"]),
        "Ratio: time of torch over ours, calls of all forms taking turns in one process, through `SparseLinear`; "
        "weights in no cache up to 32 tokens. A cell is geometric mean / minimum over the shapes with K x N >= "
        f"{SMALL / 1e6:.1f} M elements and the token counts of its column. *aim*: no shape below the must and the mean "
        "at the aim; *met*: no shape below the must; *mean*: the mean is, some shape is not; *missed*: neither.",
        "## Against `F.linear`",
        _ratios(points, threads, "plain", lambda row: row.plain),
        "## Against oneDNN on a weight laid out beforehand",
        _ratios(points, threads, "prepacked", lambda row: row.prepacked),
        _errors(points),
        "## Memory-bound calls: one token, weights in no cache",
        _memory(points, threads, result["limits"]),
        "## What a call costs, small layers, threads",
        _calls(result),
        _small(points, threads),
        "## Cliffs",
        cliffs(result["cliffs"]),
        "## Top-k",
        _topk(result["topk"]),
        "## Attention with importance scores, and compaction",
        prefill.markdown(result["prefill"], result["compaction"]),
        "## Decode attention",
        decode_table(result.get("decode", [])),
        "## Whole models",
        end_to_end,
        "## Peers",
        _peers(result),
    ]
    return "\n\n".join(parts) + "\n"


def verdict(ratios: Sequence[float], bar: Bar | None) -> str:
    """One of "aim", "met", "mean", "missed"; empty without a bar or a ratio."""
    if bar is None or not ratios:
        return ""
    mean = geometric_mean(ratios)
    if min(ratios) >= bar.must:
        return "aim" if bar.aim is not None and mean >= bar.aim else "met"
    return "mean" if mean >= bar.must else "missed"


def geometric_mean(values: Iterable[float]) -> float:
    found = [math.log(value) for value in values]
    return math.exp(sum(found) / len(found)) if found else math.nan


def large(point: dict[str, Any]) -> bool:
    return bool(point["shape"][0] * point["shape"][1] >= SMALL)


def cell(points: Points, row: Row, column: int, threads: int, which: str) -> list[float]:
    """Ratios of a cell: every large shape at every token count of the column."""
    return [
        p[which]
        for p in points
        if p["row"] == row.name and p["threads"] == threads and large(p) and p[which] is not None
        and column_of(p["tokens"]) == column
    ]  # fmt: skip


def summary(result: Result) -> dict[str, int]:
    """How many cells are at each verdict."""
    counts = {"aim": 0, "met": 0, "mean": 0, "missed": 0}
    for threads in {p["threads"] for p in result["points"]}:
        for row in ROWS:
            for which, bars in (("plain", row.plain), ("prepacked", row.prepacked)):
                for column, bar in enumerate(bars):
                    state = verdict(cell(result["points"], row, column, threads, which), bar)
                    if state:
                        counts[state] += 1
    return counts


def cliffs(points: Points) -> str:
    """Token counts whose ratio lies below the line between the musts of the columns around them, less 10 %."""
    found = [
        f"{p['row']} at {p['tokens']} tokens, {p['threads']} threads: {p['ratio']:.2f}, line {p['line']:.2f}"
        for p in points
        if p["ratio"] < CLIFF_SLACK * p["line"]
    ]
    checked = f"{len(points)} points: {', '.join(CLIFF_ROWS)}, token counts around every power of two"
    if not found:
        return f"None ({checked})."
    return f"Below the line less {1 - CLIFF_SLACK:.0%}, of {checked}:\n\n" + "\n".join(f"- {line}" for line in found)


def must_line(row: Row, tokens: int) -> float:
    """The must between columns: linear in log tokens, constant beyond the last."""
    counts, bars = list(COLUMNS.values()), row.plain
    edges = [(t, bar.must) for group, bar in zip(counts, bars, strict=True) if bar for t in (group[0], group[-1])]
    if tokens >= edges[-1][0]:
        return edges[-1][1]
    for (t0, m0), (t1, m1) in pairwise(edges):
        if t0 <= tokens < t1:
            return m0 + (m1 - m0) * math.log(tokens / t0) / math.log(t1 / t0)
    return edges[0][1]


def _limits(limits: dict[str, Any]) -> str:
    lines = ["| limit, measured | " + " | ".join(f"{t} thread{'s' * (t != '1')}" for t in limits) + " |",
             "| --- |" + " ---: |" * len(limits)]  # fmt: skip
    for name, key in (("read, 256 MiB", "read"), ("read, L2", "read_l2")):
        lines.append(f"| {name} | " + " | ".join(f"{one[key] / 1e9:.1f} GB/s" for one in limits.values()) + " |")
    for unit in next(iter(limits.values()))["peak"]:
        lines.append(
            f"| {unit} | " + " | ".join(f"{one['peak'][unit] / 1e9:.0f} Gop/s" for one in limits.values()) + " |"
        )
    return "\n".join(lines)


def _ratios(
    points: Points, threads: Sequence[int], which: str, bars_of: Callable[[Row], tuple[Bar | None, ...]]
) -> str:
    lines = [
        "| what | threads | " + " | ".join(f"M = {name}" for name in COLUMNS) + " |",
        "| --- | ---: |" + " --- |" * 4,
    ]
    for row in ROWS:
        if not any(bars_of(row)) or not any(p["row"] == row.name for p in points):
            continue
        for count in threads:
            cells = []
            for column, bar in enumerate(bars_of(row)):
                ratios = cell(points, row, column, count, which)
                shown = f"{geometric_mean(ratios):.2f} / {min(ratios):.2f}" if ratios else "-"
                goal = (
                    ""
                    if bar is None
                    else f" *{verdict(ratios, bar)}* ({bar.must:g}{f', {bar.aim:g}' if bar.aim else ''})"
                )
                cells.append(shown + goal)
            lines.append(f"| {row.name} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _errors(points: Points) -> str:
    """What quantisation costs, beside the speed that it buys."""
    errors = [p["error"] for p in points if p["error"] is not None]
    if not errors:
        return "No row is quantised."
    return f"Error of int8 outputs against the same weight in fp32, relative: {min(errors):.1e} to {max(errors):.1e}."


def _memory(points: Points, threads: Sequence[int], limits: dict[str, Any]) -> str:
    lines = ["| what | threads | dense bytes over held | GB/s, mean | of the read limit | of it, 4096x11008 |",
             "| --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for row in ROWS:
        for count in threads:
            own = [
                p for p in points if p["row"] == row.name and p["threads"] == count and p["tokens"] == 1 and large(p)
            ]
            if not own:
                continue
            rates = [p["held_bytes"] / p["seconds"] for p in own]
            limit = limits[str(count)]["read"]
            largest = max(own, key=lambda p: p["dense_bytes"])
            bound = largest["dense_bytes"] / largest["held_bytes"]
            share = largest["held_bytes"] / largest["seconds"] / limit
            mean = geometric_mean(rates)
            lines.append(
                f"| {row.name} | {count} | {bound:.2f} | {mean / 1e9:.1f} | {mean / limit:.0%} | {share:.0%} |"
            )
    return "\n".join(lines) + "\n\nThe aim is 85 % of the read limit where the weight is what is read."


def _calls(result: Result) -> str:
    dense, sparse = (seconds * 1e6 for seconds in result["call"])
    state = "met" if sparse - dense <= CALL_MOST_US else "missed"
    text = [
        f"- A call on a 16 x 16 weight: nn.Linear {dense:.1f} us, SparseLinear {sparse:.1f} us; "
        f"{sparse - dense:+.1f} us, at most {CALL_MOST_US:g}: {state}.",
        f"- A chain that alternates our layers with torch's takes {result['switching']:.3f} of both alone; "
        f"at most 1.05: {'met' if result['switching'] <= 1.05 else 'missed'}.",
    ]
    by_key = {(p["row"], tuple(p["shape"]), p["tokens"], p["threads"]): p["seconds"] for p in result["points"]}
    gains = [
        by_key[row, shape, tokens, 1] / seconds
        for (row, shape, tokens, threads), seconds in by_key.items()
        if threads == 2 and shape[0] * shape[1] >= 16e6 and tokens >= 64 and (row, shape, tokens, 1) in by_key
    ]
    if gains:
        text.append(
            f"- 2 threads against 1, weights from 16 M elements, M >= 64: {geometric_mean(gains):.2f} times "
            f"(least {min(gains):.2f}); at least 1.7: {'met' if geometric_mean(gains) >= 1.7 else 'missed'}."
        )
    return "\n".join(text)


def _small(points: Points, threads: Sequence[int]) -> str:
    tokens = sorted({p["tokens"] for p in points})
    lines = ["| 384x384, to F.linear (int8: to oneDNN) | threads | " + " | ".join(f"M = {t}" for t in tokens) + " |",
             "| --- | ---: |" + " ---: |" * len(tokens)]  # fmt: skip
    for row in ROWS:
        for count in threads:
            own = {p["tokens"]: p for p in points if p["row"] == row.name and p["threads"] == count and not large(p)}
            if not own:
                continue
            shown = [own[t]["plain"] or own[t]["prepacked"] if t in own else None for t in tokens]
            cells = " | ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in shown)
            lines.append(f"| {row.name} | {count} | {cells} |")
    return "\n".join(lines)


def _topk(rows: Points) -> str:
    bars = {(case.length, case.k): case for case in TOPK}
    lines = ["| n | k | threads | ours, us a row | to torch.topk | must | to numpy.argpartition | must |",
             "| ---: | ---: | ---: | ---: | ---: | --- | ---: | --- |"]  # fmt: skip
    for row in rows:
        case = bars[row["length"], row["k"]]
        torch_state, numpy_state = verdict([row["torch"]], case.torch), verdict([row["argpartition"]], case.numpy)
        lines.append(
            f"| {row['length']} | {row['k']} | {row['threads']} | {row['seconds'] / row['rows'] * 1e6:.2f} | "
            f"{row['torch']:.2f} | {case.torch.must:g} {torch_state} | {row['argpartition']:.2f} | "
            f"{case.numpy.must:g} {numpy_state} |"
        )
    return "\n".join(lines)


def _peers(result: Result) -> str:
    elsewhere = result["elsewhere"]
    parts = []
    if result["peers"]:
        lines = ["| peer, fp32 90 % | K x N | M | threads | peer to dense | ours to dense |",
                 "| --- | --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
        for row in result["peers"]:
            shape = f"{row['shape'][0]}x{row['shape'][1]}"
            ratios = f"{row['peer']:.2f} | {row['ours']:.2f}"
            lines.append(f"| {row['name']} | {shape} | {row['tokens']} | {row['threads']} | {ratios} |")
        parts.append("\n".join(lines))
    else:
        parts.append("`make bench PEERS=1` runs torch's CSR and BSR layers and numpy.partition as well.")
    lines = [
        f"Not run here, {elsewhere['date']}: {elsewhere['source']}.",
        "",
        "| what | peer | ratio to dense |",
        "| --- | --- | ---: |",
    ]
    lines += [f"| {row['what']} | {row['peer']} | {row['ratio']} |" for row in elsewhere["rows"]]
    parts.append("\n".join(lines))
    return "\n\n".join(parts)
