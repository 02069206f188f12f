"""The pruning of a run, from its attention ops, applied to the Q, K and V of the model with nothing pruned.

A design that runs pruned ops as they are (SpAtten) has no rule that looks at Q, K and V: what it keeps is in the ops.
Here that becomes a `Decision` about the dense tensors, with the error of its output in the definition of all designs.
The output of a query or a head that the run had pruned is zeros: that is what the run took for it, as a pruned head
adds nothing to the layer's output and a pruned token passes the layer as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.designs.decision import Bools, Floats, HeadChoice, compared, softmax
from simulator.designs.offline import part_of
from simulator.workload.decisions import OF_THE_RUN, Decision
from simulator.workload.ops import AttentionOp
from simulator.workload.tensors import LayerTensors

__all__ = ["decide_run"]

Numbers = npt.NDArray[np.float64]


def decide_run(op: AttentionOp, key_ids: npt.NDArray[np.int32] | None, tensors: LayerTensors) -> Decision:
    """Return what the run decided for `op`, an op with all kept heads of its layer, on the dense tensors of that layer.

    Kept are the run's keys, queries and heads. As many V rows a query, and as many queries with the low bits of K, as
    in the run are chosen by the probabilities here: the largest of a query's, and the queries whose largest one is the
    smallest. Q, K and V have the stored widths of the op.

    Parameters
    ----------
    key_ids: positions of the kept keys, ascending; None: all.

    Raises
    ------
    InvalidValueError: tensors that do not fit each other, or are not finite.
    """
    whole = op.phase == "summarise"
    queries = slice(0 if whole else op.context - 1, op.context)
    given = part_of(tensors, queries, op.context)
    keys = np.ones(op.context, bool)
    if key_ids is not None:
        keys[:] = False
        keys[key_ids] = True
    asked = keys if whole else np.ones(1, bool)  # a step's one query is there whatever it reads
    seen = asked[:, None] & keys
    if given.visible is not None:
        seen &= given.visible
    heads = {head: _Head(op, place, asked) for place, head in enumerate(op.heads)}
    pruned = HeadChoice(none := np.zeros_like(seen), none, np.zeros((len(seen), given.v.shape[2])))

    def choice_of(head: int) -> HeadChoice:
        return heads[head].attend(*given.head(head), given.scale, seen) if head in heads else pruned

    return compared(OF_THE_RUN, given, choice_of).decision(op.place)


@dataclass(frozen=True, slots=True)
class _Head:
    """A kept head of an op, the one at `place` among them; asked: bool [queries], those that are left."""

    op: AttentionOp
    place: int
    asked: Bools

    def attend(self, q: Floats, k: Floats, v: Floats, scale: float, seen: Bools) -> HeadChoice:
        """Attend to what is `seen`, bool [queries, keys]; the other arguments as for `Rule.decide`."""
        op = self.op
        query, (high, full) = _rounded(q, op.query_bits), _passes(k, op.key_msb_bits, op.key_lsb_bits)
        shares = softmax(scale * (query @ high.T), seen)
        if low := op.lsb_queries[self.place]:
            unsure = np.where(self.asked, shares.max(axis=1, initial=0.0), np.inf)
            again = np.argsort(unsure, kind="stable")[:low]
            shares[again] = softmax(scale * (query[again] @ full.T), seen[again])
        rows = min(op.local_values, op.values[self.place])
        kept = _largest(shares, seen, rows)
        return HeadChoice(seen, kept, np.where(kept, shares, 0.0) @ _rounded(v, op.value_bits))


def _integers(x: Floats, bits: int) -> tuple[npt.NDArray[np.int64], Numbers]:
    """Return the rows of x [n, D] as integers of `bits` bits, and the scale of each [n, 1]."""
    most = max((1 << (bits - 1)) - 1, 1)
    scale = np.abs(x, dtype=np.float64).max(axis=1, initial=0.0, keepdims=True) / most
    scale = np.where(scale > 0, scale, 1.0)
    return np.round(x / scale).astype(np.int64), scale


def _rounded(x: Floats, bits: int) -> Numbers:
    integers, scale = _integers(x, bits)
    return np.asarray(integers * scale)


def _passes(k: Floats, high_bits: int, low_bits: int) -> tuple[Numbers, Numbers]:
    """Return K as it is known from its high bits, the low ones in the middle of what they may be, and in full."""
    integers, scale = _integers(k, high_bits + low_bits)
    known = (integers >> low_bits << low_bits) + ((1 << low_bits) >> 1)
    return np.asarray(known * scale), np.asarray(integers * scale)


def _largest(shares: Numbers, seen: Bools, count: int) -> Bools:
    """Return the `count` largest shares of each query among the seen keys; of equal ones the first."""
    order: npt.NDArray[Any] = np.argsort(-np.where(seen, shares, -1.0), axis=1, kind="stable")[:, :count]
    kept = np.zeros_like(seen)
    np.put_along_axis(kept, order, True, axis=1)
    return kept & seen
