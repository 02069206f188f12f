"""The pruning rule of a design: what it decides from Q, K and V, and how far its output is from exact attention.

A design whose rule looks at Q, K and V has a `Rule` (`Design.rule`). `capture` runs it on the tensors of a real model
and stores the decisions in the workload; `simulate run` does so later where the tensors were kept. The machine finds
what was decided for an op in `Design.decision(op)`. Everything here is numpy: no torch, no sparsecore.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from simulator.errors import InvalidValueError
from simulator.workload.decisions import Decision
from simulator.workload.ops import AttentionOp, Kind, Place

__all__ = [
    "AttentionTensors",
    "Chosen",
    "HeadChoice",
    "Rule",
    "choose",
    "compared",
    "decide",
    "exact_attention",
    "softmax",
    "uniform",
]

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class AttentionTensors:
    """Q, K and V of one attention op of the model with nothing pruned, without padding.

    Parameters
    ----------
    q: [heads, queries, D]. k: [K/V heads, keys, D]. v: [K/V heads, keys, Dv]; heads is a multiple of the K/V heads.
    scale: multiplies the scores. visible: bool [queries, keys], what a query may attend to; None: everything.

    Raises
    ------
    InvalidValueError: shapes that do not fit each other, or a value that is not finite.
    """

    q: Floats
    k: Floats
    v: Floats
    scale: float
    visible: Bools | None = None

    def __post_init__(self) -> None:
        shapes = f"q {self.q.shape}, k {self.k.shape}, v {self.v.shape}"
        fits = self.q.ndim == self.k.ndim == self.v.ndim == 3 and self.k.shape[:2] == self.v.shape[:2]
        if not fits or self.q.shape[2] != self.k.shape[2] or self.q.shape[0] % max(self.k.shape[0], 1):
            raise InvalidValueError(f"the tensors do not fit: {shapes}", expected="[heads, rows, size of a head]")
        seen = self.visible
        if seen is not None and (seen.dtype != np.bool_ or seen.shape != (self.q.shape[1], self.k.shape[1])):
            found = f"visible is {seen.dtype}{seen.shape} for {shapes}"
            raise InvalidValueError(found, expected="bool [queries, keys]")
        if not all(np.isfinite(x).all() for x in (self.q, self.k, self.v)):
            raise InvalidValueError("Q, K or V has values that are not finite", expected="finite numbers")

    def head(self, index: int) -> tuple[Floats, Floats, Floats]:
        """Return q [queries, D], k [keys, D] and v [keys, Dv] of a head."""
        shared = index * self.k.shape[0] // self.q.shape[0]
        return self.q[index], self.k[shared], self.v[shared]


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """What a rule decided for one head.

    Parameters
    ----------
    scored, kept: bool [queries, keys]: whose score is computed (not: predicted), and whose V row is multiplied.
    output: [queries, Dv] in the design's arithmetic; zeros for a query that sees no key.
    extra: further counts [queries] that the machine needs, by name.
    """

    scored: Bools
    kept: Bools
    output: Floats
    extra: Mapping[str, Ints] = field(default_factory=dict)


class Rule(ABC):
    """How a design prunes attention, looking at one head at a time.

    single_queries: whether the queries of several generated tokens may be decided in one call, as if each were alone.
    """

    single_queries: ClassVar[bool] = True

    @property
    def keeps_all(self) -> bool:
        """Whether it prunes nothing, so that its decisions are known without tensors."""
        return False

    @property
    @abstractmethod
    def name(self) -> str:
        """The rule with everything that it depends on: rules of equal name decide alike."""

    @abstractmethod
    def decide(self, q: Floats, k: Floats, v: Floats, scale: float, visible: Bools | None) -> HeadChoice:
        """Decide for one head, in the design's number format.

        Parameters
        ----------
        q: [queries, D]. k: [keys, D]. v: [keys, Dv]; any number of rows, 0 included. scale, visible: as
            `AttentionTensors`; what is not visible must be neither scored nor kept.
        """


def exact_attention(q: Floats, k: Floats, v: Floats, scale: float, visible: Bools | None) -> Floats:
    """Return softmax(scale q k^T) v in float64, [queries, Dv]; zeros for a query that sees no key."""
    shares = softmax(scale * (q.astype(np.float64) @ k.T.astype(np.float64)), visible)
    return np.asarray(shares @ v.astype(np.float64))


def softmax(scores: Floats, among: Bools | None) -> npt.NDArray[np.float64]:
    """Return the shares of the keys of `among` (None: all), [queries, keys]; zeros for a query without any."""
    if among is not None:
        scores = np.where(among, scores, -np.inf)
    largest = scores.max(axis=1, initial=-np.inf, keepdims=True)
    shares = np.exp(scores - np.where(np.isfinite(largest), largest, 0.0))
    total = shares.sum(axis=1, keepdims=True)
    return np.asarray(shares / np.where(total > 0, total, 1.0))


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was decided for all heads and queries of some tensors, before it is a decision about an op.

    Parameters
    ----------
    rule: its name. choices: by head.
    missed, whole: float64 [queries], squared norms of (output - dense) and of dense, over all heads.
    """

    rule: str
    choices: tuple[HeadChoice, ...]
    missed: npt.NDArray[np.float64]
    whole: npt.NDArray[np.float64]

    def decision(self, place: Place, queries: slice = slice(None), keep_mask: bool = False) -> Decision:
        """Return the decision about the op at `place`, whose queries are some of those here."""
        layer, sequence, phase, step = place
        count = len(self.missed[queries])
        scored, kept = ([getattr(c, name)[queries] for c in self.choices] for name in ("scored", "kept"))
        extra = self.choices[0].extra if self.choices else ()
        missed, whole = float(self.missed[queries].sum()), float(self.whole[queries].sum())
        return Decision(
            rule=self.rule,
            layer=layer,
            sequence=sequence,
            phase=phase,
            step=step,
            key_rows=tuple(int(rows.any(axis=0).sum()) for rows in scored),
            value_rows=tuple(int(rows.any(axis=0).sum()) for rows in kept),
            candidates=_rows([rows.sum(axis=1) for rows in scored], count),
            values=_rows([rows.sum(axis=1) for rows in kept], count),
            extra={name: _rows([c.extra[name][queries] for c in self.choices], count) for name in extra},
            mask=np.stack(kept) if keep_mask and kept else None,
            output_error=(missed / whole) ** 0.5 if whole else 0.0,
        )


def choose(rule: Rule, tensors: AttentionTensors) -> Chosen:
    """Run `rule` head by head, and compare its output with exact attention; raises as `compared`."""
    scale, visible = tensors.scale, tensors.visible
    return compared(rule.name, tensors, lambda head: rule.decide(*tensors.head(head), scale, visible))


def compared(rule: str, tensors: AttentionTensors, choice_of: Callable[[int], HeadChoice]) -> Chosen:
    """Compare what `choice_of` chose for each head, by the rule of that name, with exact attention.

    Raises
    ------
    InvalidValueError: it answers in other shapes, or chose a key that is not visible.
    """
    heads, queries, _ = tensors.q.shape
    choices, missed, whole = [], np.zeros(queries), np.zeros(queries)
    for head in range(heads):
        choice = choice_of(head)
        _check(rule, choice, (queries, tensors.k.shape[1]), tensors.visible)
        dense = exact_attention(*tensors.head(head), tensors.scale, tensors.visible)
        missed += np.square(choice.output - dense).sum(axis=1)
        whole += np.square(dense).sum(axis=1)
        choices.append(choice)
    return Chosen(rule, tuple(choices), missed, whole)


def decide(rule: Rule, place: Place, tensors: AttentionTensors, keep_mask: bool = False) -> Decision:
    """Return what `rule` decides for the op at `place`, with the error of its output; raises as `choose`."""
    return choose(rule, tensors).decision(place, keep_mask=keep_mask)


def uniform(rule: Rule, op: AttentionOp, candidates: int, kept: int, kind: Kind, **extra: int) -> Decision:
    """Return a decision with the same counts for every query of `op`: what fractions stand for, without tensors."""
    layer, sequence, phase, step = op.place

    def full(count: int) -> npt.NDArray[np.int32]:
        return np.full((len(op.heads), op.queries), count, np.int32)

    return Decision(
        rule=rule.name,
        layer=layer,
        sequence=sequence,
        phase=phase,
        step=step,
        key_rows=(op.keys,) * len(op.heads),
        value_rows=(op.keys,) * len(op.heads),
        candidates=full(candidates),
        values=full(kept),
        extra={name: full(count) for name, count in extra.items()},
        kind=kind,
    )


def _rows(counts: list[Ints], queries: int) -> npt.NDArray[np.int32]:
    return np.array(counts, dtype=np.int32).reshape(len(counts), queries)


def _check(rule: str, choice: HeadChoice, shape: tuple[int, int], visible: Bools | None) -> None:
    for name, mask in (("scored", choice.scored), ("kept", choice.kept)):
        if mask.shape != shape:
            raise InvalidValueError(f"{rule} answers {name} {mask.shape}", expected=f"[queries, keys] = {shape}")
        if visible is not None and bool((mask & ~visible).any()):
            raise InvalidValueError(f"{rule} chose a key that the query may not see", where=name)
