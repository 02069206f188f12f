"""SpAtten's pruning rule, as far as the machine has to act on it while an op runs.

How much each layer keeps is the workload's schedule, or was measured: what arrives here are counts. This module says
what SpAtten does with them: which selections its top-k engines run, and what it can fetch before it has decided.

The paper's rule for the counts (section III): the first 15 % of the layers keep all tokens and the first 30 % all
heads; over the others the ratio falls linearly from r_start to r_end with r_start + r_end = 2 r_average; ratios are of
the original length. simulator.workload has it as the schedule "spatten-bert", and a released one as "spatten-gpt2".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from simulator.workload.ir import AttentionOp

__all__ = ["Decisions", "HeadGroup"]


@dataclass(frozen=True, slots=True)
class HeadGroup:
    """The heads that share one K and V, served as one: their queries follow each other over the same rows.

    Parameters
    ----------
    index: of the K/V head among the kept ones. heads: how many share it.
    queries: of all of them. low_bit_queries: those computed again with the low bits of K.
    values: V rows fetched: the union over the queries (over grouped heads: the largest of their unions).
    """

    index: int
    heads: int
    queries: int
    low_bit_queries: int
    values: int


@dataclass(frozen=True, slots=True)
class Decisions:
    """What SpAtten decides for one op.

    Parameters
    ----------
    groups: the work, K/V head by K/V head (where K does not fit on the chip: block by block of its queries).
    local_select: (candidates, kept) of the local-V selection after each softmax; None: the engine is bypassed because
        every V row is used (the RTL bypasses it whenever V count >= K count).
    in_blocks: a group's queries pass through the units as one item, as K and V stream by once for each group.
    """

    groups: tuple[HeadGroup, ...]
    local_select: tuple[int, int] | None
    in_blocks: bool = False

    @property
    def values_in_advance(self) -> bool:
        """Whether V is fetched beside K; with a local selection it waits for the first query's result."""
        return self.local_select is None

    @staticmethod
    def of(op: AttentionOp, block: int | None = None) -> Decisions:
        """Return the decisions for `op`; `block`: at most so many queries share a pass over K and V (None: all)."""
        select = (op.keys, op.local_values) if op.local_values < op.keys else None
        groups = _groups(op)
        if block is not None:
            groups = tuple(part for group in groups for part in _blocks(group, block))
        return Decisions(groups, select, block is not None)


def _blocks(group: HeadGroup, block: int) -> list[HeadGroup]:
    """Split a group's queries in blocks of equal size but for the last, low-bit queries spread evenly."""
    total, low = group.queries, group.low_bit_queries
    edges = [*range(0, total, block), total]
    return [
        replace(group, queries=end - start, low_bit_queries=end * low // total - start * low // total)
        for start, end in pairwise(edges)
    ]


def _groups(op: AttentionOp) -> tuple[HeadGroup, ...]:
    heads, shared = len(op.heads), op.kv_heads
    groups = []
    for index in range(shared):
        start, end = heads * index // shared, heads * (index + 1) // shared
        low = sum(op.lsb_queries[start:end]) if op.key_lsb_bits else 0
        values = max(op.values[start:end], default=0)
        groups.append(HeadGroup(index, end - start, op.queries * (end - start), low, values))
    return tuple(group for group in groups if group.queries)
