"""Points that no other point beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["front"]


def front(values: Sequence[Sequence[float]]) -> list[int]:
    """Return the indices, ascending, of the rows that no other row dominates; less is better in every column.

    A row dominates another one if it is nowhere larger and somewhere smaller; equal rows stand together. Time grows
    with rows times rows of the front.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.size == 0:
        return []
    left = np.lexsort(table.T[::-1])  # nothing dominates what comes before it in this order
    found: list[int] = []
    while left.size:
        best, rest = left[0], left[1:]
        found.append(int(best))
        beaten = (table[rest] >= table[best]).all(axis=1) & (table[rest] > table[best]).any(axis=1)
        left = rest[~beaten]
    return sorted(found)
