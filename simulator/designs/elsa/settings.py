"""The parameters of ELSA."""

from __future__ import annotations

from pydantic import Field

from simulator.designs.elsa.decide import ElsaRule
from simulator.engine.interface import DesignSettings
from simulator.settings import Settings
from simulator.units import FetcherSettings

__all__ = ["ElsaSettings"]


class SizeSettings(Settings):
    """What the memories and the multipliers are built for."""

    keys: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    integer_bits: int = Field(ge=0, le=15)
    fraction_bits: int = Field(ge=0, le=15)


class FractionSettings(Settings):
    """Published share of the keys that are candidates."""

    candidates: float = Field(ge=0, le=1)


class ElsaSettings(DesignSettings):
    """All parameters of ELSA; `approximation` 0 keeps every key."""

    size: SizeSettings
    attention_modules: int = Field(ge=1, description="P_a: keys worked on in a cycle")
    selectors: int = Field(ge=1, description="P_c: keys that the selectors of an attention module look at in a cycle")
    hash_multipliers: int = Field(ge=1, description="m_h")
    dividers: int = Field(ge=1, description="m_o: elements of the output divided in a cycle")
    buffers: int = Field(ge=1, description="heads whose K and V are on the chip")
    approximation: float = Field(ge=0, description="p: keys above p / n of the probability are to be kept")
    bias: float = Field(ge=0)
    fractions: FractionSettings
    fetcher: FetcherSettings
    output_bits: int = Field(ge=1, le=64)

    @property
    def rule(self) -> ElsaRule:
        """The pruning rule of these settings."""
        return ElsaRule(self.approximation, self.bias, self.size.integer_bits, self.size.fraction_bits)

    @property
    def element_bits(self) -> int:
        """Bits of an element of Q, K and V: sign, integer and fraction."""
        return 1 + self.size.integer_bits + self.size.fraction_bits
