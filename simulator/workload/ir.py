"""What a model computes on given sequences: the description that every design is simulated on.

One `AttentionOp` stands for the attention of one layer on one sequence in one phase and step, after all pruning
decisions; linear and other ops stand for everything else that the model does. A multiply-add counts as 2 operations
everywhere. docs/workload.md has the counts and the file format.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from simulator.errors import InvalidValueError

__all__ = [
    "KINDS",
    "AttentionOp",
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

Kind = Literal["measured", "published", "assumed"]
Phase = Literal["summarise", "generate"]
Scope = Literal["attention", "linear", "other", "total"]
IntArray = npt.NDArray[np.int32]
KINDS: tuple[Kind, ...] = ("measured", "published", "assumed")  # from the most to the least trustworthy


def _require(condition: bool, what: str, expected: str = "") -> None:
    if not condition:
        raise InvalidValueError(what, expected=expected)


def _check_step(phase: str, step: int, sequence: int | None) -> None:
    _require(phase in ("summarise", "generate"), f"unknown phase {phase!r}", "summarise or generate")
    _require(step >= 0, f"step {step} is negative", "0 or more")
    _require(sequence is None or sequence >= 0, f"sequence {sequence} is negative", "0 or more")


def _check_kinds(kind: Mapping[str, Kind]) -> None:
    _require(set(kind.values()) <= set(KINDS), f"unknown kind in {dict(kind)}", "measured, published or assumed")


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


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The sizes of a transformer.

    Parameters
    ----------
    family: "bert", "gpt2", "llama", ...; says which ops a layer has (simulator.workload.build).
    layers, heads, kv_heads, head_dim, hidden, intermediate, vocab: counts; kv_heads < heads for grouped queries.
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
        for name in ("layers", "heads", "kv_heads", "head_dim", "hidden", "intermediate"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}", "1 or more")
        _require(self.vocab >= 0 and self.parameters >= 0, "vocab or parameters is negative", "0 or more")
        _require(self.heads % self.kv_heads == 0, f"{self.heads} heads do not share {self.kv_heads} K/V heads evenly")


@dataclass(frozen=True, slots=True)
class Sequence:
    """One input: `tokens` is its length before any pruning (of the prompt, where tokens are generated)."""

    index: int
    tokens: int
    text: str | None = None

    def __post_init__(self) -> None:
        _require(self.index >= 0 and self.tokens >= 0, "index or tokens is negative", "0 or more")


@dataclass(frozen=True, slots=True)
class AttentionOp:
    """The attention of one layer on one sequence, phase and step.

    Parameters
    ----------
    context: keys before any pruning; queries before pruning are `context` when summarising and 1 when generating.
    queries, keys: what is left of them here.
    heads: kept head ids, ascending. kv_heads: K/V heads that these read (fewer than heads for grouped queries).
    values: per kept head, V rows fetched: the union over the queries. local_values: V rows multiplied per query.
    lsb_queries: per kept head, queries computed again with the low bits of K.
    query_bits, key_msb_bits, key_lsb_bits, value_bits: stored widths; key_lsb_bits is 0 where K is read in one pass.
    token_select, head_select: (candidates, kept) of a top-k done after this op, or None.
    key_ids: name of an int32 array of `Workload.arrays` with the kept original positions, ascending, or None.
    kind: where the numbers come from, by "tokens", "heads", "values", "lsb" and "bits".
    """

    layer: int
    sequence: int
    phase: Phase
    step: int
    context: int
    queries: int
    keys: int
    heads: tuple[int, ...]
    kv_heads: int
    head_dim: int
    values: tuple[int, ...]
    local_values: int
    lsb_queries: tuple[int, ...]
    query_bits: int
    key_msb_bits: int
    key_lsb_bits: int
    value_bits: int
    token_select: tuple[int, int] | None = None
    head_select: tuple[int, int] | None = None
    key_ids: str | None = None
    kind: dict[str, Kind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_step(self.phase, self.step, self.sequence)
        _check_kinds(self.kind)
        _require(self.layer >= 0, f"layer {self.layer} is negative", "0 or more")
        _require(0 <= self.keys <= self.context, f"{self.keys} keys kept of {self.context}", "0 to the context")
        _require(0 <= self.queries <= self.context, f"{self.queries} queries of {self.context}", "0 to the context")
        ascending = all(a < b for a, b in pairwise(self.heads))
        _require(ascending and min(self.heads, default=0) >= 0, "head ids are not ascending and unique")
        _require(0 <= self.kv_heads <= len(self.heads), f"{self.kv_heads} K/V heads for {len(self.heads)} heads")
        _require(self.kv_heads > 0 or not self.heads, "no K/V head for the kept heads", "1 or more")
        _require(self.head_dim > 0, f"head_dim is {self.head_dim}", "1 or more")
        counts = len(self.values) == len(self.heads) == len(self.lsb_queries)
        _require(counts, "values and lsb_queries must have one entry per kept head")
        _require(all(0 <= v <= self.keys for v in self.values), "V rows fetched out of range", "0 to the kept keys")
        _require(0 <= self.local_values <= self.keys, f"local_values {self.local_values}", "0 to the kept keys")
        lsb = all(0 <= count <= self.queries for count in self.lsb_queries)
        _require(lsb, "lsb_queries out of range", "0 to the queries")
        _require(min(self.query_bits, self.key_msb_bits, self.value_bits) > 0, "a bit width is 0", "1 or more")
        _require(self.key_lsb_bits >= 0, f"key_lsb_bits is {self.key_lsb_bits}", "0 or more")
        for name, select in (("token_select", self.token_select), ("head_select", self.head_select)):
            _require(select is None or 0 <= select[1] <= select[0], f"{name} {select}", "(candidates, kept)")

    @property
    def recomputed(self) -> int:
        """Queries computed again with the low bits, over all kept heads."""
        return sum(self.lsb_queries)

    @property
    def operations(self) -> int:
        """Executed operations: QK^T, its repetition with the low bits, and probabilities times the local V rows."""
        rows = self.queries * len(self.heads) * (self.keys + self.local_values) + self.recomputed * self.keys
        return 2 * self.head_dim * rows

    @property
    def bytes(self) -> int:
        """Bytes that must cross the chip's edge once: Q, K (low bits where any query needs them), V, and the output.

        The output is counted at the width of Q; K and V of grouped queries are counted once per K/V head.
        """
        shared = self.kv_heads / max(len(self.heads), 1)
        low = sum(count > 0 for count in self.lsb_queries) * self.keys * self.key_lsb_bits
        kv_bits = len(self.heads) * self.keys * self.key_msb_bits + low + sum(self.values) * self.value_bits
        q_bits = 2 * self.queries * len(self.heads) * self.query_bits
        return round(self.head_dim * (kv_bits * shared + q_bits) / 8)

    def dense(self, heads: int, kv_heads: int) -> AttentionOp:
        """Return this op with nothing pruned and all bits of K read in one pass."""
        queries = self.context if self.phase == "summarise" else 1
        return dataclasses.replace(
            self,
            queries=min(queries, self.context),
            keys=self.context,
            heads=tuple(range(heads)),
            kv_heads=kv_heads,
            values=(self.context,) * heads,
            local_values=self.context,
            lsb_queries=(0,) * heads,
            key_msb_bits=self.key_msb_bits + self.key_lsb_bits,
            key_lsb_bits=0,
            token_select=None,
            head_select=None,
            key_ids=None,
        )


@dataclass(frozen=True, slots=True)
class LinearOp:
    """A linear layer applied to `tokens` rows: [tokens, in_features] x [out_features, in_features]^T.

    Parameters
    ----------
    layer: None outside the transformer layers (pooler, lm_head). sequence: None where a batch is computed at once.
    pattern: "dense", "2:4", "block 32x32", "unstructured". density: kept share of the weights, in (0, 1].
    weight_bits: stored width of a weight and of an activation.
    kind: by "tokens" and "pattern".
    """

    layer: int | None
    name: str
    sequence: int | None
    phase: Phase
    step: int
    tokens: int
    in_features: int
    out_features: int
    pattern: str = "dense"
    density: float = 1.0
    weight_bits: int = 32
    kind: dict[str, Kind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_step(self.phase, self.step, self.sequence)
        _check_kinds(self.kind)
        _require(self.tokens >= 0, f"tokens is {self.tokens}", "0 or more")
        _require(self.in_features > 0 and self.out_features > 0, "a size of the weight is 0", "1 or more")
        _require(0 <= self.density <= 1, f"density {self.density}", "0 to 1")
        _require(self.weight_bits > 0, f"weight_bits is {self.weight_bits}", "1 or more")

    @property
    def operations(self) -> int:
        """Executed operations: 2 per token and kept weight."""
        return round(2 * self.tokens * self.in_features * self.out_features * self.density)

    @property
    def bytes(self) -> int:
        """Bytes of the kept weights, the inputs and the outputs, each once."""
        weights = self.in_features * self.out_features * self.density
        return round((weights + self.tokens * (self.in_features + self.out_features)) * self.weight_bits / 8)


@dataclass(frozen=True, slots=True)
class OtherOp:
    """Anything else: layer norm, activation, residual, embedding. `operations` and `bytes` are counted by its maker.

    Parameters
    ----------
    tokens: rows that the op is applied to. elements: outputs of the op.
    operations: how many per element is in simulator.workload.build. bytes: read and written, each once.
    kind: by "tokens".
    """

    layer: int | None
    name: str
    sequence: int | None
    phase: Phase
    step: int
    tokens: int
    elements: int
    operations: int
    bytes: int
    kind: dict[str, Kind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_step(self.phase, self.step, self.sequence)
        _check_kinds(self.kind)
        counts = (self.tokens, self.elements, self.operations, self.bytes)
        _require(min(counts) >= 0, f"{self.name}: a count is negative", "0 or more")


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

    def __post_init__(self) -> None:
        for op in self.attention:
            where = f"attention of layer {op.layer}"
            _require(op.layer < self.model.layers, where, f"fewer than {self.model.layers} layers")
            _require(max(op.heads, default=0) < self.model.heads, f"{where}: head id", f"below {self.model.heads}")
            _require(op.sequence < len(self.sequences), f"{where}: sequence {op.sequence} is not described")
            if op.key_ids is not None:
                _check_ids(self.arrays.get(op.key_ids), op, where)

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

        Weight patterns stay. Linear and other ops inside a layer are taken back to all tokens of their sequence; those
        outside (embeddings, pooler, lm_head) are as they were.
        """
        return dataclasses.replace(
            self,
            attention=tuple(op.dense(self.model.heads, self.model.kv_heads) for op in self.attention),
            linear=tuple(dataclasses.replace(op, tokens=self._all_tokens(op, op.tokens)) for op in self.linear),
            other=tuple(self._dense_other(op) for op in self.other),
            arrays={},
            schedule=f"{self.schedule}, pruning off",
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
