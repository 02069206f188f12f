"""Constants of technology: energies with their sources, one source a file in `tables/`."""

from simulator.tech.tables import Constant, SramMacro, constant, sram_macro, table_names

__all__ = ["Constant", "SramMacro", "constant", "sram_macro", "table_names"]
