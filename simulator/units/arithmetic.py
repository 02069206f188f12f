"""Energy of arithmetic by operand width, from published energies of 8-bit and fp32 operations."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.settings import Settings
from simulator.tech import AS_PUBLISHED, Constant, Technology

__all__ = ["Arithmetic", "ArithmeticSettings"]

EXPONENT_ORDER = 5  # SpAtten, section IV: a Taylor polynomial of the 5th order
DIVIDER_BITS = 16  # SpAtten's released RTL: a fixed-point divider of 16 bits


class ArithmeticSettings(Settings):
    """Constants ("table.name") in pJ."""

    multiply_8bit: str
    add_8bit: str
    fp32_add: str
    fp32_multiply: str


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A multiplier's energy grows with the square of its width, an adder's linearly."""

    settings: ArithmeticSettings
    technology: Technology = AS_PUBLISHED

    def _constant(self, name: str) -> Constant:
        return self.technology.constant(getattr(self.settings, name), f"energy.{name}", "pJ")

    def _pj(self, name: str) -> float:
        return self._constant(name).value

    @property
    def source(self) -> str:
        """Where the energies come from."""
        return "; ".join(dict.fromkeys(self._constant(name).source for name in type(self.settings).model_fields))

    def add_pj(self, bits: int) -> float:
        """Energy of an addition or comparison: e_add(8) x bits / 8."""
        return self._pj("add_8bit") * bits / 8

    def multiply_add_pj(self, bits: int) -> float:
        """Energy of a multiply-add: e_mul(8) x (bits / 8)^2 + e_add(2 bits)."""
        return self._pj("multiply_8bit") * (bits / 8) ** 2 + self.add_pj(2 * bits)

    def probability_pj(self) -> float:
        """Energy of one probability of a softmax: scale, exponent by Horner's rule, accumulate, divide bit by bit.

        e_mul(fp32) + 5 (e_mul(fp32) + e_add(fp32)) + e_add(fp32) + 16 e_add(16).
        """
        multiply, add = self._pj("fp32_multiply"), self._pj("fp32_add")
        division = DIVIDER_BITS * self.add_pj(DIVIDER_BITS)
        return multiply + EXPONENT_ORDER * (multiply + add) + add + division
