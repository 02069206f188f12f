"""The memory of a design: a timing model of its DRAM, exact traffic counts per stream, and their energy."""

from simulator.memory.energy import DramCounts, DramEnergy, default_model, dram_energy, energy_models, energy_table
from simulator.memory.model import Finished, Memory, Traffic
from simulator.memory.spec import MemorySpec, load_memory, standard_names

__all__ = [
    "DramCounts",
    "DramEnergy",
    "Finished",
    "Memory",
    "MemorySpec",
    "Traffic",
    "default_model",
    "dram_energy",
    "energy_models",
    "energy_table",
    "load_memory",
    "standard_names",
]
