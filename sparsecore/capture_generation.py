"""The decoding steps of a cascade run as attention ops: what each of them read, token by token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from simulator.workload import AttentionOp, LinearOp, OtherOp, Workload
from simulator.workload.build import element_bits
from sparsecore.errors import InvalidValueError

if TYPE_CHECKING:
    from sparsecore.cascade.generation import GenerationRun

__all__ = ["measured"]

Select = tuple[int, int] | None
IntArray = npt.NDArray[np.int32]


def measured(workload: Workload, run: GenerationRun, name: str) -> Workload:
    """Return `workload`, a generation of one sequence with nothing pruned, with the decisions of `run`.

    The arrays of token ids begin with `name`. A top-k before a layer stands behind the attention before it, as in
    `simulator.workload.build`.

    Raises
    ------
    InvalidValueError: the run has no ids, several sequences or another number of steps.
    """
    steps = 1 + max((op.step for op in workload.attention if op.phase == "generate"), default=-1)
    if len(run.prompts) != 1 or run.steps != steps:
        what = f"a run of {len(run.prompts)} sequences and {run.steps} steps"
        raise InvalidValueError(what, where="run", expected=f"one sequence and {steps} steps")
    ops = _Ops(run, name)
    attention = [ops.prompt(op) if op.phase == "summarise" else ops.step(op) for op in workload.attention]
    return replace(
        workload,
        attention=tuple(ops.with_selections(attention)),
        linear=tuple(_linear(op, run) for op in workload.linear),
        other=tuple(_other(op, run) for op in workload.other),
        arrays=ops.arrays,
    )


class _Ops:
    """Makes the ops of one run, and keeps the token ids that they name."""

    def __init__(self, run: GenerationRun, name: str) -> None:
        self.run = run
        self._name = name
        self.arrays: dict[str, IntArray] = {}
        self._sink = max(1, run.schedule.sink, int(run.schedule.protect_first))

    def prompt(self, op: AttentionOp) -> AttentionOp:
        """Return the op of a layer of the prompt's pass, which computes all heads of the tokens that are left."""
        ids = self.run.prompt_ids[op.layer][0]
        keys = len(ids)
        return replace(
            op,
            queries=keys,
            keys=keys,
            values=(keys,) * len(op.heads),
            local_values=keys,
            key_ids=self._named(f"prompt.layer{op.layer}", ids, op.context),
            protected=min(keys, self._sink),
            **self._bits(op),
        )

    def step(self, op: AttentionOp) -> AttentionOp:
        """Return the op of a layer of a decoding step."""
        run, place = self.run, (op.step, op.layer, 0)
        heads = run.heads[place].nonzero().flatten()
        values = tuple(run.values[place][heads].tolist())
        ids = run.tokens(*place)
        return replace(
            op,
            keys=len(ids),
            heads=tuple(heads.tolist()),
            kv_heads=int(run.kv_head_counts[place]),
            values=values,
            local_values=max(values, default=0),
            lsb_queries=tuple(run.low[place][heads].int().tolist()),
            key_ids=self._named(f"step{op.step}.layer{op.layer}", ids, op.context),
            protected=min(len(ids), self._sink),
            **self._bits(op),
        )

    def _named(self, name: str, ids: Tensor, context: int) -> str | None:
        """Store the ids of an op and return their name; None where nothing was pruned."""
        if len(ids) == context:
            return None
        self.arrays[full := f"{self._name}.{name}"] = ids.int().numpy()
        return full

    def _bits(self, op: AttentionOp) -> dict[str, Any]:
        """Return the stored widths: those of the bit planes, where there were any, which only decoding steps read."""
        schedule = self.run.schedule
        if schedule.msb_bits is None or op.phase == "summarise":
            return {}
        return {
            "query_bits": schedule.msb_bits + schedule.lsb_bits,
            "key_msb_bits": schedule.msb_bits,
            "key_lsb_bits": schedule.lsb_bits,
            "value_bits": schedule.value_bits or element_bits(self.run.model.dtype),
            "kind": {**op.kind, "bits": "measured"},
        }

    def with_selections(self, ops: list[AttentionOp]) -> list[AttentionOp]:
        """Return the ops, each with the top-k that comes before the next one."""
        following = [*ops[1:], None]
        return [
            replace(op, token_select=self._tokens(then), head_select=self._heads(then))
            for op, then in zip(ops, following, strict=True)
        ]

    def _tokens(self, op: AttentionOp | None) -> Select:
        if op is None:
            return None
        candidates = self._candidates(op)
        return (candidates, op.keys) if op.keys < candidates else None

    def _candidates(self, op: AttentionOp) -> int:
        """Return among how many tokens a layer chose."""
        if op.phase == "summarise":
            return len(self.run.prompt_ids[op.layer - 1][0]) if op.layer else op.keys
        if self.run.mode == "evict":
            before = self.run.counts[op.step - 1, op.layer, 0] if op.step else len(self.run.prompt_ids[op.layer][0])
            return int(before) + 1
        return int(self.run.counts[op.step, op.layer - 1, 0]) if op.layer else op.context

    def _heads(self, op: AttentionOp | None) -> Select:
        if op is None or op.phase == "summarise":
            return None
        before = int(self.run.head_counts[op.step, op.layer - 1, 0]) if op.layer else self.run.model.heads
        return (before, len(op.heads)) if len(op.heads) < before else None


def _linear(op: LinearOp, run: GenerationRun) -> LinearOp:
    return replace(op, tokens=_kept(op, run))


def _other(op: OtherOp, run: GenerationRun) -> OtherOp:
    tokens = _kept(op, run)
    if tokens == op.tokens:
        return op
    elements, operations, size = (count * tokens // op.tokens for count in (op.elements, op.operations, op.bytes))
    return replace(op, tokens=tokens, elements=elements, operations=operations, bytes=size)


def _kept(op: LinearOp | OtherOp, run: GenerationRun) -> int:
    """Return the tokens of an op: in a layer of the prompt's pass those that were left."""
    if op.layer is None or op.phase == "generate":
        return op.tokens
    return len(run.prompt_ids[op.layer][0])
