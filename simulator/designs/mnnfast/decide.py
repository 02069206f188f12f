"""MNNFast's pruning rule: V rows of small probability are skipped (H. Jang et al., MnnFast, ISCA 2019).

All scores are computed; a V row whose probability is below the threshold is not multiplied, and nothing is
renormalised. The design has no number format of its own in what was published of it: fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.designs.decision import Bools, Floats, HeadChoice, Rule

__all__ = ["MnnFastRule"]


@dataclass(frozen=True, slots=True)
class MnnFastRule(Rule):
    """What MNNFast decides. Parameters: threshold: the least probability whose V row is multiplied."""

    threshold: float

    @property
    def name(self) -> str:
        """The rule with its parameter."""
        return f"mnnfast: probability >= {self.threshold:g}"

    def decide(self, q: Floats, k: Floats, v: Floats, scale: float, visible: Bools | None) -> HeadChoice:
        """Decide for one head; see `Rule.decide`."""
        q32, k32, v32 = (np.asarray(x, np.float32) for x in (q, k, v))
        seen = np.ones((len(q), len(k)), bool) if visible is None else visible
        scores = np.where(seen, np.float32(scale) * (q32 @ k32.T), np.float32(-np.inf))
        largest = scores.max(axis=1, initial=-np.inf, keepdims=True)
        shares = np.exp(scores - np.where(np.isfinite(largest), largest, np.float32(0)))
        total = shares.sum(axis=1, keepdims=True)
        shares = shares / np.where(total > 0, total, np.float32(1))
        kept = seen & (shares >= np.float32(self.threshold))
        return HeadChoice(seen, kept, np.where(kept, shares, np.float32(0)) @ v32)
