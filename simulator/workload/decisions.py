"""What a design's own pruning rule decided for an attention op, from the Q, K and V of a real run.

SpAtten's decisions are in the ops themselves, as the model really prunes by them. Other designs decide in every layer
anew, from the Q, K and V of the model with nothing pruned: a workload holds the decisions of as many rules as were
asked for, each beside the op that it is about (docs/workload.md, "Decisions"). What the ops themselves keep, applied to
the same Q, K and V, is the decision `OF_THE_RUN`: no machine reads it, it tells how far a pruned run is from dense.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.workload.ops import Kind, Phase, Place, require

__all__ = ["OF_THE_RUN", "Counts", "Decision"]

Counts = npt.NDArray[np.int32]
OF_THE_RUN = "spatten: the run's own"
"""The rule of decisions that restate what the ops of a pruned run keep."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule decided for the attention of one layer on one sequence, phase and step, with all heads.

    Parameters
    ----------
    rule: the rule's name with all that it depends on (`simulator.designs.decision.Rule.name`).
    layer, sequence, phase, step: of the op.
    key_rows, value_rows: per head, rows of K and of V that any query needs.
    candidates, values: int32 [heads, queries]: keys whose score the query computes, and V rows that it multiplies.
    extra: further int32 arrays [heads, queries] by the rule's own names.
    mask: which V rows each query multiplies, bool [heads, queries, keys], to test against; None where it was not kept.
    output_error: |output - dense| / |dense| over all heads and queries (Frobenius norms), the output being that of the
        design's arithmetic and dense that of exact attention; None where no Q, K and V were at hand.
    kind: "measured", or "published" and "assumed" where a design takes fractions instead.
    """

    rule: str
    layer: int
    sequence: int
    phase: Phase
    step: int
    key_rows: tuple[int, ...]
    value_rows: tuple[int, ...]
    candidates: Counts = field(compare=False)
    values: Counts = field(compare=False)
    extra: dict[str, Counts] = field(default_factory=dict, compare=False)
    mask: npt.NDArray[np.bool_] | None = field(default=None, compare=False)
    output_error: float | None = None
    kind: Kind = "measured"

    def __post_init__(self) -> None:
        shape, where = self.candidates.shape, f"decision of {self.rule} in layer {self.layer}"
        heads = len(self.key_rows)
        require(len(shape) == 2 and shape[0] == heads, f"{where}: counts of shape {shape}", f"({heads}, queries)")
        require(len(self.value_rows) == heads, f"{where}: {len(self.value_rows)} counts of V rows", f"{heads}")
        for name, counts in self.counts().items():
            require(counts.shape == shape and counts.dtype == np.int32, f"{where}: {name}", f"int32, {shape}")
            require(not counts.size or counts.min() >= 0, f"{where}: {name} below 0", "0 or more")
        if self.mask is not None:
            fits = self.mask.dtype == np.bool_ and self.mask.shape[:2] == shape and self.mask.ndim == 3
            require(fits, f"{where}: a mask of shape {self.mask.shape}", "bool [heads, queries, keys]")
        error = self.output_error
        require(error is None or error >= 0, f"{where}: the output's error is {error}", "0 or more")

    @property
    def place(self) -> Place:
        """Layer, sequence, phase and step, as `AttentionOp.place`."""
        return (self.layer, self.sequence, self.phase, self.step)

    def counts(self) -> dict[str, Counts]:
        """Return all counts by name."""
        return {"candidates": self.candidates, "values": self.values, **self.extra}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that is stored as an array: the counts, and the mask if there is one."""
        masks: dict[str, npt.NDArray[Any]] = {} if self.mask is None else {"mask": self.mask}
        return {**self.counts(), **masks}
