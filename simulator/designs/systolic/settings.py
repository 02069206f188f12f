"""The parameters of a systolic array."""

from __future__ import annotations

from pydantic import Field

from simulator.engine.interface import DesignSettings
from simulator.settings import Settings
from simulator.tech import SiliconSettings
from simulator.units import ArithmeticSettings, FetcherSettings, SoftmaxSettings
from simulator.units.systolic import Dataflow

__all__ = ["SystolicSettings"]


class ArraySettings(Settings):
    """The array of multipliers."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    dataflow: Dataflow = Field(description="what stays in the array: ws weights, os outputs, is inputs")
    overlap: bool = Field(description="false: one fold after the other, as SCALE-Sim; true: loading beside the stream")
    element_bits: int = Field(ge=1, le=64)
    accumulator_bits: int = Field(ge=1, le=64)


class BufferSettings(Settings):
    """The buffer for operands and scores."""

    bytes: int = Field(ge=1)
    double_buffered: bool = Field(description="the next tile of a linear layer is loaded beside the one in use")
    keeps_activations: bool = Field(description="inputs and outputs of linear layers stay on the chip where they fit")
    macro_bytes: int = Field(ge=1)
    port_bits: int = Field(ge=1)
    table: str


class SystolicSettings(DesignSettings):
    """All parameters of the systolic model."""

    array: ArraySettings
    softmax: SoftmaxSettings
    sram: BufferSettings
    fetcher: FetcherSettings
    tiling: str = Field("least", description="of linear layers: least, or MxKxN:LOOPS as 128x64x256:nmk")
    linear_bits: int = Field(ge=1, le=64, description="stored width of weights and activations of linear layers")
    output_bits: int = Field(ge=1, le=64, description="stored width of the attention output")
    energy: ArithmeticSettings
    silicon: SiliconSettings
