"""The parameters of MNNFast."""

from __future__ import annotations

from pydantic import Field

from simulator.engine.interface import DesignSettings
from simulator.settings import Settings
from simulator.units import FetcherSettings

__all__ = ["MnnFastSettings"]


class SizeSettings(Settings):
    """What fits on the chip, and the multipliers of each of the two products."""

    keys: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    multipliers: int = Field(ge=1)


class FractionSettings(Settings):
    """Share of the V rows that are multiplied where nothing was captured."""

    kept: float = Field(ge=0, le=1)


class MnnFastSettings(DesignSettings):
    """All parameters of MNNFast."""

    size: SizeSettings
    minimum_lanes: int = Field(ge=1)
    buffers: int = Field(ge=1, description="heads whose K and V are on the chip")
    threshold: float = Field(ge=0, le=1)
    fractions: FractionSettings
    element_bits: int = Field(ge=1, le=64)
    fetcher: FetcherSettings
    power: str = Field(description="a constant in mW: power of the chip")
