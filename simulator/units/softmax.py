"""The softmax unit: dequantise, exponent, accumulate, divide, quantise, a few elements a cycle."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from simulator.settings import Settings

__all__ = ["Softmax", "SoftmaxSettings"]


class SoftmaxSettings(Settings):
    """Elements per cycle, depth of the score FIFO in words of that many elements, and stage latencies in cycles."""

    parallelism: int = Field(ge=1)
    fifo_depth: int = Field(ge=1)
    dequantise: int = Field(ge=0)
    exponent: int = Field(ge=0)
    accumulate: int = Field(ge=0)
    divide: int = Field(ge=0)
    quantise: int = Field(ge=0)


@dataclass(frozen=True, slots=True)
class Softmax:
    """Exponents and their sum are taken while the scores arrive; the division starts when the sum is complete.

    Both passes are pipelined, so that a query occupies the unit for ceil(n / parallelism) cycles; the first
    probability leaves `latency` cycles after the last score (stage latencies: SpAtten's released behaviour model).
    """

    settings: SoftmaxSettings

    @property
    def latency(self) -> int:
        """Cycles from the last score to the first probability."""
        s = self.settings
        return s.dequantise + s.exponent + s.accumulate + s.divide + s.quantise

    def cycles(self, keys: int) -> int:
        """Cycles that a query over `keys` keys occupies the unit."""
        return -(-keys // self.settings.parallelism)

    def queries_in_fifo(self, keys: int) -> int:
        """Whole queries whose scores fit in the score FIFO, at least one (a longer one streams through it)."""
        return max(1, self.settings.fifo_depth // max(self.cycles(keys), 1))
