"""The parameters of SpAtten; the values and their sources are in the YAML files beside this one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.engine.interface import DesignSettings
from simulator.settings import Settings
from simulator.units import SoftmaxSettings, SramSettings, TopKSettings

__all__ = ["SpAttenSettings"]

Layout = Literal["compact", "original"]


class ArraySettings(Settings):
    """Each of the two multiplier arrays (Q x K and probabilities x V)."""

    multipliers: int = Field(ge=1, description="in one array")
    minimum_lanes: int = Field(ge=1, description="lanes of the narrowest group: 512 / 8 outputs")
    element_bits: int = Field(ge=1, le=64, description="on-chip operand width")


class FetcherSettings(Settings):
    """Lanes and FIFOs between the crossbars."""

    lanes: int = Field(ge=1)
    fifo_depth: int = Field(ge=1)
    word_bytes: int = Field(ge=1)


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


class EnergySettings(Settings):
    """Constants ("table.name") for the on-chip energies, and the macro of the fetcher's FIFOs."""

    multiply_8bit: str
    add_8bit: str
    add_32bit: str
    fp32_add: str
    fp32_multiply: str
    fifo_macro_bytes: int
    fifo_port_bits: int
    sram_table: str


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
    energy: EnergySettings
