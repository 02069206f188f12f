"""The parameters of Sanger."""

from __future__ import annotations

from pydantic import Field

from simulator.designs.sanger.decide import SangerRule
from simulator.engine.interface import DesignSettings
from simulator.settings import Settings
from simulator.units import FetcherSettings

__all__ = ["SangerSettings"]


class SizeSettings(Settings):
    """What fits on the chip."""

    keys: int = Field(ge=1)
    head_dim: int = Field(ge=1)


class ArraySettings(Settings):
    """The processing elements, rows x columns, and the keys that a row covers."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    chunk: int = Field(ge=1)


class FractionSettings(Settings):
    """Published share of the scores that are kept, and the part of the array that they keep busy."""

    kept: float = Field(gt=0, le=1)
    load_balance: float = Field(gt=0, le=1)


class SangerSettings(DesignSettings):
    """All parameters of Sanger."""

    size: SizeSettings
    array: ArraySettings
    buffers: int = Field(ge=1, description="heads whose K and V are on the chip")
    threshold: float = Field(ge=0, le=1)
    prediction_bits: int = Field(ge=2, le=16)
    fractions: FractionSettings
    element_bits: int = Field(ge=1, le=64)
    fetcher: FetcherSettings
    power: str = Field(description="a constant in mW: power of the chip")
    area: str = Field(description="a constant in um2: area of the chip")

    @property
    def rule(self) -> SangerRule:
        """The pruning rule of these settings."""
        array = self.array
        return SangerRule(self.threshold, self.prediction_bits, array.rows, array.chunk, array.columns)
