"""The top-k engine: quick-select with two comparator arrays, in expected cycles.

SpAtten, Algorithm 3: a random pivot splits the candidates into larger and smaller ones, `parallelism` a cycle; the side
that holds the k-th largest is kept, until the pivot is it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from simulator.settings import Settings
from simulator.units.zero_eliminator import ZeroEliminator

__all__ = ["TopK", "TopKSettings", "quick_select_mean"]

Floats = npt.NDArray[np.float64]
Counted = Literal["words", "whole words", "items"]


@lru_cache(maxsize=4096)
def _means(n: int, parallelism: int, per_round: int, counted: Counted) -> Floats:
    """Return E(n, t) for t = 1 .. n (index t - 1).

    E(n, t) = c(n) + (1 / n) [ sum over m = t .. n-1 of E(m, t) + sum over j = 1 .. t-1 of E(n - t + j, j) ],
    where c(n) = ceil(n / P) + per_round cycles (whole words: n / P rounded down), or n items: the first sum are the
    pivots below the target (the larger side of m items stays), the second those above it (the smaller side stays and
    the target moves up by as many). Both are running sums over smaller n, along columns and diagonals of the table, so
    that all of it costs O(n^2).
    """
    column = np.zeros(n)  # over m < size of E(m, t), by t - 1
    diagonal = np.zeros(n)  # over j < t of E(d + j, j), by d = size - t
    row = np.zeros(0)
    for size in range(1, n + 1):
        words = size // parallelism if counted == "whole words" else -(-size // parallelism)
        cost = size if counted == "items" else words + per_round
        row = cost + (column[:size] + diagonal[size - 1 :: -1][:size]) / size
        column[:size] += row
        diagonal[:size] += row[::-1]
    return row


def quick_select_mean(n: int, k: int, parallelism: int, per_round: int = 3, whole_words: bool = False) -> float:
    """Return the exact mean cycles to find the k-th largest of n distinct values with uniformly random pivots.

    A round over m values takes ceil(m / parallelism) + per_round cycles (SpAtten's released latency model: 3), with
    `whole_words` floor(m / parallelism) + per_round.
    """
    if not 0 < k <= n:
        return 0.0
    return float(_means(n, parallelism, per_round, "whole words" if whole_words else "words")[k - 1])


class TopKSettings(Settings):
    """A top-k engine; `output_hidden`: the pass that writes the chosen items out overlaps the next selection."""

    parallelism: int = Field(ge=1)
    fifo_depth: int = Field(64, ge=1, description="words in FIFO_L and in FIFO_R, of `parallelism` items")
    cycles_per_round: int = Field(ge=0)
    output_hidden: bool


@dataclass(frozen=True, slots=True)
class TopK:
    """One engine. Selections of all candidates, or of none, bypass it."""

    settings: TopKSettings

    def cycles(self, candidates: int, kept: int) -> int:
        """Expected cycles that a selection occupies the engine, rounded to whole cycles."""
        if not 0 < kept < candidates:
            return 0
        s = self.settings
        select = round(quick_select_mean(candidates, kept, s.parallelism, s.cycles_per_round))
        return select if s.output_hidden else select + self.output_cycles(candidates)

    def output_cycles(self, candidates: int) -> int:
        """Cycles of the output pass: all candidates are filtered, then pass the zero eliminator."""
        return -(-candidates // self.settings.parallelism) + ZeroEliminator(self.settings.parallelism).latency

    def comparisons(self, candidates: int, kept: int) -> float:
        """Expected comparisons: two arrays compare a round's candidates with the pivot, then one filters the output."""
        if not 0 < kept < candidates:
            return 0.0
        return 2 * float(_means(candidates, 1, 0, "items")[kept - 1]) + candidates
