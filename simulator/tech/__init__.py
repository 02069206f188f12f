"""Constants of technology: energies and areas with their sources, one source a file in `tables/`, and their scaling."""

from simulator.tech.given import GIVEN, asked_constants, given_text
from simulator.tech.silicon import Area, Silicon, SiliconSettings
from simulator.tech.tables import Constant, SramMacro, constant, sram_family, sram_macro, table_names
from simulator.tech.technology import AS_PUBLISHED, ScalingRule, Technology, TechnologySettings, scaling_rules

__all__ = [
    "AS_PUBLISHED",
    "GIVEN",
    "Area",
    "Constant",
    "ScalingRule",
    "Silicon",
    "SiliconSettings",
    "SramMacro",
    "Technology",
    "TechnologySettings",
    "asked_constants",
    "constant",
    "given_text",
    "scaling_rules",
    "sram_family",
    "sram_macro",
    "table_names",
]
