"""Constants of technology: energies and areas with their sources, one source a file in `tables/`, and their scaling."""

from simulator.tech.silicon import Area, Silicon, SiliconSettings
from simulator.tech.tables import Constant, SramMacro, constant, sram_family, sram_macro, table_names
from simulator.tech.technology import AS_PUBLISHED, ScalingRule, Technology, TechnologySettings, scaling_rules

__all__ = [
    "AS_PUBLISHED",
    "Area",
    "Constant",
    "ScalingRule",
    "Silicon",
    "SiliconSettings",
    "SramMacro",
    "Technology",
    "TechnologySettings",
    "constant",
    "scaling_rules",
    "sram_family",
    "sram_macro",
    "table_names",
]
