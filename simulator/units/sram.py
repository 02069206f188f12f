"""On-chip buffers for K and V, made of equal macros."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from simulator.settings import Settings
from simulator.tech import AS_PUBLISHED, SramMacro, Technology

__all__ = ["Sram", "SramSettings"]


class SramSettings(Settings):
    """A buffer of `bytes`, split in `buffers` equal parts that are filled in turn; macros as in the CACTI table."""

    bytes: int = Field(ge=1)
    buffers: int = Field(ge=1)
    outstanding: int = Field(ge=1, description="allocations held at the same time, at most")
    fill_lines: int = Field(1, ge=1, description="lines that a write fills at once; allocations are whole fills")
    shared_port: bool = Field(False, description="a write keeps the array from reading the same buffer for a cycle")
    macro_bytes: int = Field(ge=1)
    port_bits: int = Field(ge=1)
    table: str


@dataclass(frozen=True, slots=True)
class Sram:
    """A buffer that is allocated in lines, one line being what the multiplier array reads in a cycle.

    Parameters
    ----------
    settings: sizes. line_bits: lanes of the array x element width. technology: node and supply of the macros.
    """

    settings: SramSettings
    line_bits: int
    technology: Technology = AS_PUBLISHED

    @property
    def lines(self) -> int:
        """Lines in the buffer."""
        return 8 * self.settings.bytes // self.line_bits

    @property
    def lines_per_buffer(self) -> int:
        """Lines that one head may hold: the rest belongs to the head that is being loaded."""
        return self.lines // self.settings.buffers

    @property
    def macro(self) -> SramMacro:
        """The macro of the CACTI table that it is made of."""
        s = self.settings
        return self.technology.macro(s.table, s.macro_bytes, s.port_bits, where="sram")

    @property
    def macros(self) -> int:
        """Number of macros: ceil(bytes / macro_bytes)."""
        return -(-self.settings.bytes // self.settings.macro_bytes)

    def read_pj(self, bits: float) -> float:
        """Energy of reading `bits`: whole port widths at the macro's energy per access."""
        return bits / self.settings.port_bits * self.macro.read_pj

    def write_pj(self, bits: float) -> float:
        """Energy of writing `bits`."""
        return bits / self.settings.port_bits * self.macro.write_pj

    def leakage_mw(self) -> float:
        """Leakage of all macros."""
        return self.macros * self.macro.leakage_mw
