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

    undecided: int = Field(ge=1, description="entries of the request FIFO: between Q x K and the decision")
    decided: int = Field(ge=1, description="queries in front of probabilities x V")
    held_scores: int = Field(32768, ge=1, description="of a block of queries, where K does not fit on the chip")


class LayoutSettings(Settings):
    """Where rows lie in DRAM: kept tokens one behind the other (compact) or at their original positions."""

    summarise: Layout
    generate: Layout
    region_bytes: int = Field(ge=1, description="every matrix of a head starts at a multiple of this")
    align_bytes: int = Field(1, ge=1, description="rows of K and V start at multiples of this")
    round_rows: int = Field(1, ge=1, description="numbers of K and V rows are rounded up to multiples of this")
    widest_bits: int | None = Field(
        None, ge=1, description="wider K: so many high and 4 low bits, always; wider V: so many"
    )
    fused_bits: int | None = Field(None, ge=1, description="width of high bits of K that two heads store as one row")
    fused_select_free: bool = Field(False, description="a local-V selection of the second of these heads takes no time")


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


class LinearSettings(Settings):
    """Linear layers on the same multipliers (SpAtten-e2e): stored widths."""

    weight_bits: int = Field(ge=1, le=64)
    activation_bits: int = Field(ge=1, le=64)


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
    kv_tiling: Literal["none", "stream"] = Field("none", description="what to do with K that does not fit in the SRAM")
    fifo: FifoSettings
    energy: ArithmeticSettings
    linear: LinearSettings | None = Field(None, description="None: linear layers are left to others")
    authors: AuthorsSettings
    silicon: SiliconSettings
