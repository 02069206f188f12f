"""What the released RTL makes of an op before it runs it: widths that it can read, and rounded counts of rows."""

from __future__ import annotations

from dataclasses import replace

from simulator.designs.spatten.settings import LayoutSettings
from simulator.workload.ir import AttentionOp

__all__ = ["executed"]

LOW_BITS = 4  # the only width of low bits that it reads


def executed(op: AttentionOp, layout: LayoutSettings) -> AttentionOp:
    """Return the op that runs for `op`.

    With `widest_bits` wider rows of K are read as so many high and 4 low bits, every query being computed twice, and
    wider rows of V as so many bits. With `round_rows` the numbers of rows of K and V are rounded up; what is read in
    addition lies behind the context.
    """
    return _rounded(_narrowed(op, layout.widest_bits), layout.round_rows)


def _narrowed(op: AttentionOp, widest: int | None) -> AttentionOp:
    if widest is None:
        return op
    value_bits = min(op.value_bits, widest)
    if op.key_msb_bits <= widest:
        return replace(op, value_bits=value_bits)
    again = (op.queries,) * len(op.heads)
    return replace(op, key_msb_bits=widest, key_lsb_bits=LOW_BITS, lsb_queries=again, value_bits=value_bits)


def _rounded(op: AttentionOp, multiple: int) -> AttentionOp:
    def up(rows: int) -> int:
        return -(-rows // multiple) * multiple

    if multiple == 1 or not op.keys:
        return op
    keys = up(op.keys)
    return replace(
        op,
        context=op.context + keys - op.keys,
        keys=keys,
        values=tuple(up(rows) for rows in op.values),
        local_values=up(op.local_values),
    )
