"""What a model computes on given sequences: the description that every design is simulated on.

One `AttentionOp` stands for the attention of one layer on one sequence in one phase and step, after all pruning
decisions; where heads of a layer keep different counts, for a group of equal heads that follow each other. Linear and
other ops stand for everything else that the model does. A multiply-add counts as 2 operations everywhere.
docs/workload.md has the counts and the file format.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from simulator.errors import InvalidValueError
from simulator.workload.decisions import OF_THE_RUN, Decision
from simulator.workload.ops import KINDS, AttentionOp, Kind, LinearOp, OtherOp, Phase, Place
from simulator.workload.ops import require as _require
from simulator.workload.tensors import TensorsFile

__all__ = [
    "KINDS",
    "AttentionOp",
    "Decision",
    "Kind",
    "LinearOp",
    "ModelInfo",
    "Op",
    "OtherOp",
    "Phase",
    "Scope",
    "Sequence",
    "Workload",
]

Scope = Literal["attention", "linear", "other", "total"]
IntArray = npt.NDArray[np.int32]


def _check_ids(ids: IntArray | None, op: AttentionOp, where: str) -> None:
    if ids is None:
        raise InvalidValueError(f"{where}: the array {op.key_ids!r} is missing")
    _require(
        ids.dtype == np.int32 and ids.shape == (op.keys,), f"{where}: key ids {ids.dtype}{ids.shape}", "int32[keys]"
    )
    ascending = bool(np.all(np.diff(ids) > 0))
    _require(ascending, f"{where}: key ids are not ascending and unique")
    inside = ids.size == 0 or (ids[0] >= 0 and ids[-1] < op.context)
    _require(bool(inside), f"{where}: a key id is out of range", f"0 to {op.context - 1}")
    first = np.array_equal(ids[: op.protected], np.arange(op.protected))
    _require(first, f"{where}: a protected position is not among the key ids", f"the first {op.protected} positions")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The sizes of a transformer.

    Parameters
    ----------
    family: "bert", "gpt2", "llama", ...; says which ops a layer has (simulator.workload.build).
    layers, heads, kv_heads, head_dim, hidden, intermediate, vocab: counts; kv_heads < heads for grouped queries;
    intermediate is 0 where it is not known; vocab counts the classes of a classifier.
    parameters: number of weights and biases, each counted once where it is shared.
    dtype: element type of the stored weights, as in safetensors but in lower case ("f32", "bf16", ...).
    """

    family: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocab: int
    parameters: int
    dtype: str

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "kv_heads", "head_dim", "hidden"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}", "1 or more")
        for name in ("intermediate", "vocab", "parameters"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}", "0 or more")
        _require(self.heads % self.kv_heads == 0, f"{self.heads} heads do not share {self.kv_heads} K/V heads evenly")


@dataclass(frozen=True, slots=True)
class Sequence:
    """One input: `tokens` is its length before any pruning (of the prompt, where tokens are generated)."""

    index: int
    tokens: int
    text: str | None = None

    def __post_init__(self) -> None:
        _require(self.index >= 0 and self.tokens >= 0, "index or tokens is negative", "0 or more")


Op: TypeAlias = AttentionOp | LinearOp | OtherOp
AnyOp = TypeVar("AnyOp", AttentionOp, LinearOp, OtherOp)


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything a model computes on some sequences, in execution order within each kind of op.

    Parameters
    ----------
    arrays: large arrays by name, int32; an AttentionOp names those that belong to it.
    schedule: the name of the schedule that made the decisions, or "measured run".
    source: what it was made from (a file, a built-in model, "capture").
    notes: what a reader of the results must know.
    decisions: of pruning rules that look at Q, K and V, about the ops with nothing pruned; several for an op, by rule.
    tensors: where the Q, K and V are from which other rules can decide later; None where they were not kept.
    """

    name: str
    model: ModelInfo
    sequences: tuple[Sequence, ...]
    attention: tuple[AttentionOp, ...]
    linear: tuple[LinearOp, ...]
    other: tuple[OtherOp, ...]
    arrays: dict[str, IntArray] = field(default_factory=dict, compare=False)
    schedule: str = "measured run"
    source: str = ""
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    tensors: TensorsFile | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        self._check_decisions()
        for op in self.attention:
            where = f"attention of layer {op.layer}"
            _require(op.layer < self.model.layers, where, f"fewer than {self.model.layers} layers")
            _require(max(op.heads, default=0) < self.model.heads, f"{where}: head id", f"below {self.model.heads}")
            _require(op.sequence < len(self.sequences), f"{where}: sequence {op.sequence} is not described")
            if op.key_ids is not None:
                _check_ids(self.arrays.get(op.key_ids), op, where)

    def _check_decisions(self) -> None:
        contexts = {op.place: op.context for op in self.attention}
        for made in self.decisions:
            where = f"decision of {made.rule} for {made.place}"
            _require(made.place in contexts, f"{where}: there is no such op")
            context, queries = contexts[made.place], made.candidates.shape[1]
            _require(len(made.key_rows) == self.model.heads, f"{where}: its heads", f"{self.model.heads}")
            expected = context if made.phase == "summarise" else min(context, 1)
            _require(queries == expected, f"{where}: {queries} queries", f"{expected}: those before any pruning")
            most = max((*made.key_rows, *made.value_rows, 0))
            most = max(most, *(int(c.max(initial=0)) for c in (made.candidates, made.values)))
            _require(most <= context, f"{where}: {most} rows", f"at most the {context} keys")

    def decided(self, rule: str) -> dict[Place, Decision]:
        """Return the decisions of a rule by the place of their op."""
        return {made.place: made for made in self.decisions if made.rule == rule}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `path` (JSON) and, if there are arrays, a safetensors file beside it; an interrupt keeps the old pair.

        Raises
        ------
        FileMissingError: the folder does not exist.
        """
        from simulator.workload import store  # the file format knows this module, not the reverse

        store.save(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Workload:
        """Read what `save` wrote.

        Raises
        ------
        FileMissingError: no such file, or its arrays are not beside it.
        CorruptFileError: truncated, damaged, or with values out of range.
        FormatVersionError: written by a newer major version.
        """
        from simulator.workload import store

        return store.load(path)

    def dense(self) -> Workload:
        """Return the same sequences with cascade pruning off: every token, head and value kept, K read in one pass.

        Groups of heads of one layer become one op. Weight patterns stay. Linear and other ops inside a layer are taken
        back to all tokens of their sequence; those outside (embeddings, pooler, lm_head) are as they were.
        """
        whole = {op.place: op for op in self.attention}.values()
        return dataclasses.replace(
            self,
            attention=tuple(op.dense(self.model.heads, self.model.kv_heads) for op in whole),
            linear=tuple(dataclasses.replace(op, tokens=self._all_tokens(op, op.tokens)) for op in self.linear),
            other=tuple(self._dense_other(op) for op in self.other),
            arrays={},
            schedule=f"{self.schedule}, pruning off",
            decisions=tuple(made for made in self.decisions if made.rule != OF_THE_RUN),
        )

    def _all_tokens(self, op: LinearOp | OtherOp, now: int) -> int:
        if op.layer is None or op.phase == "generate":
            return now
        if op.sequence is None:
            return sum(sequence.tokens for sequence in self.sequences)
        return self.sequences[op.sequence].tokens

    def _dense_other(self, op: OtherOp) -> OtherOp:
        tokens = self._all_tokens(op, op.tokens)
        if tokens == op.tokens or op.tokens == 0:
            return op
        counts = (op.elements, op.operations, op.bytes)
        elements, operations, size = (round(count * tokens / op.tokens) for count in counts)
        return dataclasses.replace(op, tokens=tokens, elements=elements, operations=operations, bytes=size)

    def only(self, phase: Phase) -> Workload:
        """Return the part of one phase: SpAtten, for one, reports the generation alone."""

        def chosen(ops: tuple[AnyOp, ...]) -> tuple[AnyOp, ...]:
            return tuple(op for op in ops if op.phase == phase)

        attention = chosen(self.attention)
        used = {op.key_ids for op in attention}
        arrays = {name: ids for name, ids in self.arrays.items() if name in used}
        return dataclasses.replace(
            self,
            name=f"{self.name}, {phase} only",
            attention=attention,
            linear=chosen(self.linear),
            other=chosen(self.other),
            arrays=arrays,
            decisions=tuple(made for made in self.decisions if made.phase == phase),
        )

    def kinds(self) -> dict[str, Kind]:
        """Return for each field of the ops the least trustworthy kind that occurs in it."""
        worst: dict[str, Kind] = {}
        for op in self.ops():
            for name, kind in op.kind.items():
                worst[name] = max(worst.get(name, "measured"), kind, key=KINDS.index)
        return worst

    def operations(self, scope: Scope = "total") -> int:
        """Return the executed operations of a scope (2 per multiply-add)."""
        return sum(op.operations for op in self.ops(scope))

    def bytes(self, scope: Scope = "total") -> int:
        """Return the bytes that the ops of a scope must read and write, each op by itself."""
        return sum(op.bytes for op in self.ops(scope))

    def ops(self, scope: Scope = "total") -> tuple[Op, ...]:
        """Return the ops of a scope."""
        if scope == "total":
            return (*self.attention, *self.linear, *self.other)
        scopes: dict[str, tuple[Op, ...]] = {"attention": self.attention, "linear": self.linear, "other": self.other}
        return scopes[scope]
