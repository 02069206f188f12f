"""The parameters of SpAtten; the values and their sources are in the YAML files beside this one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.designs.spatten.authors import AuthorsSettings
from simulator.engine.interface import DesignSettings
from simulator.settings import Settings
from simulator.tech import SiliconSettings
from simulator.units import ArithmeticSettings, FetcherSettings, SoftmaxSettings, SramSettings, TopKSettings

__all__ = ["SpAttenSettings"]

Layout = Literal["compact", "original"]


class ArraySettings(Settings):
    """Each of the two multiplier arrays (Q x K and probabilities x V)."""

    multipliers: int = Field(ge=1, description="in one array")
    minimum_lanes: int = Field(ge=1, description="lanes of the narrowest group: 512 / 8 outputs")
    element_bits: int = Field(ge=1, le=64, description="on-chip operand width")


class PipelineSettings(Settings):
    """Limits of what is under way at a time."""

    undecided: int = Field(ge=1, description="query batches between Q x K and the low-bit decision")
    decided: int = Field(ge=1, description="query batches between the decision and probabilities x V")


class LayoutSettings(Settings):
    """Where rows lie in DRAM: kept tokens one behind the other (compact) or at their original positions."""

    summarise: Layout
    generate: Layout
    region_bytes: int = Field(ge=1, description="every matrix of a head starts at a multiple of this")


class WriteSettings(Settings):
    """What the design writes to DRAM."""

    outputs: bool
    output_bits: int = Field(ge=1, le=64)
    new_key_value: bool = Field(description="the K and V rows of each generated token")


class FifoSettings(Settings):
    """The macro of the fetcher's data FIFOs in the SRAM table."""

    macro_bytes: int = Field(ge=1)
    port_bits: int = Field(ge=1)
    table: str


class SpAttenSettings(DesignSettings):
    """All parameters of the SpAtten model."""

    array: ArraySettings
    softmax: SoftmaxSettings
    sram: SramSettings
    topk: TopKSettings
    fetcher: FetcherSettings
    pipeline: PipelineSettings
    layout: LayoutSettings
    write: WriteSettings
    fifo: FifoSettings
    energy: ArithmeticSettings
    authors: AuthorsSettings
    silicon: SiliconSettings
