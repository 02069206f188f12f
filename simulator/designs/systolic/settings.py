"""The parameters of the systolic baseline."""

from __future__ import annotations

from pydantic import Field

from simulator.engine.interface import DesignSettings
from simulator.settings import Settings
from simulator.tech import SiliconSettings
from simulator.units import ArithmeticSettings, FetcherSettings, SoftmaxSettings

__all__ = ["SystolicSettings"]


class ArraySettings(Settings):
    """The array of multipliers."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    element_bits: int = Field(ge=1, le=64)


class BufferSettings(Settings):
    """The buffer for operands and scores."""

    bytes: int = Field(ge=1)
    macro_bytes: int = Field(ge=1)
    port_bits: int = Field(ge=1)
    table: str


class SystolicSettings(DesignSettings):
    """All parameters of the systolic model."""

    array: ArraySettings
    softmax: SoftmaxSettings
    sram: BufferSettings
    fetcher: FetcherSettings
    linear_bits: int = Field(ge=1, le=64, description="stored width of weights and activations of linear layers")
    output_bits: int = Field(ge=1, le=64, description="stored width of the attention output")
    energy: ArithmeticSettings
    silicon: SiliconSettings
