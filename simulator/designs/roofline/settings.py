"""The ceilings of a processor: all measured in one place, or all from one sheet, never some of each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from simulator.engine.interface import DesignSettings, DramSettings
from simulator.memory.ideal import IDEAL
from simulator.settings import Settings

__all__ = ["MeasuredSettings", "RooflineSettings", "SheetSettings"]

NO_MEMORY = DramSettings(standard=IDEAL, channels=None, ideal_latency=None, ideal_bytes_per_cycle=None)


class SheetSettings(Settings):
    """What a vendor prints.

    operations: by width of the operands in bits, of one core and cycle, a multiply-add being 2.
    """

    cores: int = Field(ge=1, description="cores, multiprocessors")
    clock_ghz: float = Field(gt=0)
    operations: dict[int, float] = Field(min_length=1)
    bus_bits: int = Field(ge=1)
    gbit_per_pin: float = Field(gt=0)

    def gops(self) -> dict[int, float]:
        """Return operations in 1e9 a second by width."""
        return {bits: self.cores * self.clock_ghz * each for bits, each in self.operations.items()}

    def gb_per_s(self) -> float:
        """Return the bandwidth of the memory's pins."""
        return self.bus_bits * self.gbit_per_pin / 8


class MeasuredSettings(Settings):
    """What loops that do nothing but multiply, or read, have reached; operations in 1e9 a second by width in bits."""

    gops_by_bits: dict[int, float] = Field(min_length=1)
    read_gb_per_s: float = Field(gt=0)

    def gops(self) -> dict[int, float]:
        """Return operations in 1e9 a second by width."""
        return self.gops_by_bits

    def gb_per_s(self) -> float:
        """Return the bandwidth of reading."""
        return self.read_gb_per_s


class RooflineSettings(DesignSettings):
    """A processor. Exactly one of `sheet` and `measured` is given."""

    dram: DramSettings = NO_MEMORY
    source: str = Field(min_length=1, description="where the ceilings come from, in words")
    sheet: SheetSettings | None = None
    measured: MeasuredSettings | None = None
    bits: int | None = Field(None, ge=1, le=64, description="of all operands; None: those of the workload")
    line_bytes: int = Field(ge=1, description="bytes that memory moves at least")
    power_w: float | None = Field(None, gt=0, description="thermal design power; None: not known")
    die_mm2: float | None = Field(None, gt=0)

    @property
    def ceilings(self) -> SheetSettings | MeasuredSettings:
        """The ceilings."""
        found = self.sheet or self.measured
        assert found is not None
        return found

    @property
    def kind(self) -> Literal["measured", "published"]:
        """How the ceilings were found."""
        return "published" if self.measured is None else "measured"

    @model_validator(mode="after")
    def _of_one_kind(self) -> RooflineSettings:
        if (self.sheet is None) == (self.measured is None):
            raise ValueError("expected either sheet or measured: ceilings of both kinds are never mixed")
        if self.dram != NO_MEMORY:
            raise ValueError("a roofline has a bandwidth (sheet.bus_bits, sheet.gbit_per_pin), no memory to choose")
        if (self.technology.node_nm, self.technology.vdd) != (None, None):
            raise ValueError("a roofline has no node or supply to scale")
        widths = self.ceilings.gops()
        if min(widths) < 1 or min(widths.values()) <= 0:
            raise ValueError("expected widths of 1 bit and more, and rates above 0")
        return self
