"""How far results are from the exact ones, and how far they may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["BF16", "Bound", "Error"]


@dataclass(frozen=True, slots=True)
class Error:
    """norm: of the difference, relative, in the Euclidean norm.

    worst: of all elements, relative to the magnitude of the exact one plus the root mean square of its row, or of the
    whole result. It is over 0.5 where a tile was left out, however small that tile's share of the norm.
    """

    norm: float
    worst: float

    @classmethod
    def of(cls, got: Tensor, exact: Tensor, by_row: bool = True) -> Error:
        """Error of `got` against `exact` of as many elements, in float64; rows are along the last dimension."""
        exact = exact.double()
        difference = (got.double().reshape(exact.shape) - exact).abs()
        squares = exact.square()
        middle = squares.mean(-1, keepdim=True) if by_row else squares.mean()
        norm = difference.norm() / exact.norm().clamp_min(1e-300)
        return cls(float(norm), float((difference / (exact.abs() + middle.sqrt()).clamp_min(1e-300)).max()))


@dataclass(frozen=True, slots=True)
class Bound:
    """norm, worst: of an Error. times: the norm's, of the most exact of those that compute the same.

    by_row: False where rows are of different orders of magnitude, and the small ones lose most by what is asked for.
    """

    norm: float
    worst: float
    times: float | None = None
    by_row: bool = True

    def broken(self, own: Error, others: Iterable[Error] = ()) -> str:
        """What of it is exceeded, in words; empty where nothing is. A NaN exceeds."""
        if not own.norm <= self.norm:
            return f"its error is {own.norm:.1e}, at most {self.norm:.1e} is expected"
        if not own.worst <= self.worst:
            return f"an element is {own.worst:.1e} off, at most {self.worst:.1e} is expected"
        least = min((other.norm for other in others), default=None)
        if self.times is not None and least is not None and not own.norm <= self.times * least:
            return f"its error is {own.norm:.1e}, {self.times:g} times the {least:.1e} of others are expected at most"
        return ""


BF16 = Bound(norm=5e-3, worst=5e-3, times=3)
"""Sums in fp32 that are rounded once: by 2^-8 of the element at most, and in the norm by 1.7e-3."""
