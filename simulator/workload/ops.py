"""The ops of a workload: attention, linear layers, and everything else that a model does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias

from simulator.errors import InvalidValueError

__all__ = ["KINDS", "AttentionOp", "Kind", "LinearOp", "OtherOp", "Phase", "Place", "require"]

Kind = Literal["measured", "published", "assumed"]
Phase = Literal["summarise", "generate"]
Place: TypeAlias = tuple[int, int, Phase, int]
"""Layer, sequence, phase and step of an attention op."""
KINDS: tuple[Kind, ...] = ("measured", "published", "assumed")  # from the most to the least trustworthy


def require(condition: bool, what: str, expected: str = "") -> None:
    """Raise InvalidValueError unless `condition` holds."""
    if not condition:
        raise InvalidValueError(what, expected=expected)


def _check_step(phase: str, step: int, sequence: int | None) -> None:
    require(phase in ("summarise", "generate"), f"unknown phase {phase!r}", "summarise or generate")
    require(step >= 0, f"step {step} is negative", "0 or more")
    require(sequence is None or sequence >= 0, f"sequence {sequence} is negative", "0 or more")


def _check_kinds(kind: Mapping[str, Kind]) -> None:
    require(set(kind.values()) <= set(KINDS), f"unknown kind in {dict(kind)}", "measured, published or assumed")


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
    protected: how many of the first positions are never pruned (1: a class token); they count among the keys.
    continues: whether the next op has further heads of this layer, so that the layer does not end here.
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
    protected: int = 0
    continues: bool = False

    def __post_init__(self) -> None:
        _check_step(self.phase, self.step, self.sequence)
        _check_kinds(self.kind)
        require(0 <= self.protected <= self.keys, f"{self.protected} protected of {self.keys} keys", "at most the keys")
        require(self.layer >= 0, f"layer {self.layer} is negative", "0 or more")
        require(0 <= self.keys <= self.context, f"{self.keys} keys kept of {self.context}", "0 to the context")
        require(0 <= self.queries <= self.context, f"{self.queries} queries of {self.context}", "0 to the context")
        ascending = all(a < b for a, b in pairwise(self.heads))
        require(ascending and min(self.heads, default=0) >= 0, "head ids are not ascending and unique")
        require(0 <= self.kv_heads <= len(self.heads), f"{self.kv_heads} K/V heads for {len(self.heads)} heads")
        require(self.kv_heads > 0 or not self.heads, "no K/V head for the kept heads", "1 or more")
        require(self.head_dim > 0, f"head_dim is {self.head_dim}", "1 or more")
        counts = len(self.values) == len(self.heads) == len(self.lsb_queries)
        require(counts, "values and lsb_queries must have one entry per kept head")
        require(all(0 <= v <= self.keys for v in self.values), "V rows fetched out of range", "0 to the kept keys")
        require(0 <= self.local_values <= self.keys, f"local_values {self.local_values}", "0 to the kept keys")
        lsb = all(0 <= count <= self.queries for count in self.lsb_queries)
        require(lsb, "lsb_queries out of range", "0 to the queries")
        require(min(self.query_bits, self.key_msb_bits, self.value_bits) > 0, "a bit width is 0", "1 or more")
        require(self.key_lsb_bits >= 0, f"key_lsb_bits is {self.key_lsb_bits}", "0 or more")
        for name, select in (("token_select", self.token_select), ("head_select", self.head_select)):
            require(select is None or 0 <= select[1] <= select[0], f"{name} {select}", "(candidates, kept)")

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

    @property
    def place(self) -> Place:
        """Layer, sequence, phase and step: equal for the groups of heads of one layer."""
        return (self.layer, self.sequence, self.phase, self.step)

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
            continues=False,
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
        require(self.tokens >= 0, f"tokens is {self.tokens}", "0 or more")
        require(self.in_features > 0 and self.out_features > 0, "a size of the weight is 0", "1 or more")
        require(0 <= self.density <= 1, f"density {self.density}", "0 to 1")
        require(self.weight_bits > 0, f"weight_bits is {self.weight_bits}", "1 or more")

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
        require(min(counts) >= 0, f"{self.name}: a count is negative", "0 or more")
