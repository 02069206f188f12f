"""The decisions in a workload in words, under the names of `Workload.kinds`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from simulator.workload.ir import AttentionOp, Workload

__all__ = ["describe"]


def describe(workload: Workload) -> dict[str, str]:
    """Return how much is kept, computed again and stored, over all ops of `workload`."""
    said: dict[str, str] = {}
    if workload.attention:
        said |= _attention(workload.attention, workload.model.heads)
    if workload.linear:
        patterns = Counter(op.pattern for op in workload.linear)
        said["pattern"] = ", ".join(f"{name}: {count}" for name, count in patterns.items()) + " linear ops"
    return said


def _attention(ops: Sequence[AttentionOp], heads: int) -> dict[str, str]:
    pairs = sum(op.queries * len(op.heads) for op in ops)
    rows = sum(op.keys * len(op.heads) for op in ops)
    bits = Counter((op.query_bits, op.key_msb_bits, op.key_lsb_bits, op.value_bits) for op in ops)
    widths = (f"Q {q}, K {high}" + (f" + {low}" if low else "") + f", V {v} bit" for q, high, low, v in bits)
    return {
        "tokens": f"{_share(sum(op.keys for op in ops), sum(op.context for op in ops))} of the keys kept",
        "heads": f"{_share(sum(len(op.heads) for op in ops), heads * len({op.place for op in ops}))} of the heads kept",
        "values": f"{_share(sum(sum(op.values) for op in ops), rows)} of the kept V rows fetched",
        "lsb": f"{_share(sum(op.recomputed for op in ops), pairs)} of the queries need the low bits",
        "bits": "; ".join(widths),
    }


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
