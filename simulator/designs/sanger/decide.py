"""Sanger's pruning rule: a mask from 4-bit scores, packed and split for its array (L. Lu et al., MICRO 2021).

Prediction. Q and K are rounded to 4 bits, linearly and symmetrically with one scale a head; a key is kept where the
softmax of these scores reaches the threshold. Scores and softmax are then computed anew for the kept keys alone.

Pack and split. The array has rows of so many processing elements, each row for `chunk` keys of a query. A query's kept
keys in a chunk are split into parts that fill a row; what is left of two queries is packed into one row where it
fits. Rows are counted block by block of `block` queries. That two share a row at most is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from simulator.designs.decision import Bools, Floats, HeadChoice, Rule, softmax

__all__ = ["SangerRule", "packed_rows"]

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SangerRule(Rule):
    """What Sanger decides.

    Parameters
    ----------
    threshold: the least predicted probability that is kept. bits: of the prediction.
    block: queries that are on the array together. chunk: keys that a row of the array covers; width: its elements.
    """

    threshold: float
    bits: int
    block: int
    chunk: int
    width: int
    single_queries: ClassVar[bool] = False  # rows are counted for a block, and the scale is that of all its queries

    @property
    def name(self) -> str:
        """The rule with its parameters."""
        rows = f"rows of {self.width} for {self.chunk} keys, blocks of {self.block}"
        return f"sanger: {self.bits}-bit probability >= {self.threshold:g}, {rows}"

    def decide(self, q: Floats, k: Floats, v: Floats, scale: float, visible: Bools | None) -> HeadChoice:
        """Decide for one head; see `Rule.decide`. A query whose keys all fall short keeps the best one.

        extra: "array_rows", rows of a block, at its first query.
        """
        seen = np.ones((len(q), len(k)), bool) if visible is None else visible
        predicted = softmax(scale * (self._rounded(q) @ self._rounded(k).T), seen)
        kept = seen & (predicted >= self.threshold)
        none = seen.any(axis=1) & ~kept.any(axis=1)
        if none.any():
            kept[none, np.where(seen, predicted, -1.0)[none].argmax(axis=1)] = True
        shares = softmax(scale * (q.astype(np.float64) @ k.T.astype(np.float64)), kept)
        return HeadChoice(kept, kept, shares @ v.astype(np.float64), {"array_rows": self.array_rows(kept)})

    def array_rows(self, kept: Bools) -> npt.NDArray[np.int32]:
        """Return for each query the rows of the array of the block that it begins, 0 for the others."""
        rows = np.zeros(len(kept), np.int32)
        for first in range(0, len(kept), self.block):
            for start in range(0, kept.shape[1], self.chunk):
                counts = kept[first : first + self.block, start : start + self.chunk].sum(axis=1)
                rows[first] += packed_rows(counts, self.width)
        return rows

    def _rounded(self, x: Floats) -> npt.NDArray[np.float64]:
        most, largest = (1 << (self.bits - 1)) - 1, float(np.abs(x).max(initial=0.0))
        step = largest / most if largest else 1.0
        return np.asarray(np.round(np.asarray(x, np.float64) / step) * step)


def packed_rows(counts: npt.NDArray[np.integer], width: int) -> int:
    """Return the rows of `width` elements that the kept keys of some queries take, [queries] in one chunk of keys."""
    rows = int((counts // width).sum())
    left = sorted((int(count) for count in counts % width if count), reverse=True)
    first, last = 0, len(left) - 1
    while first <= last:  # the largest with the smallest, if both fit: no pairing takes fewer rows
        if first < last and left[first] + left[last] <= width:
            last -= 1
        first += 1
        rows += 1
    return rows
