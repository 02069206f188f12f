"""The memory of a design: a timing model of its DRAM, exact traffic counts per stream, and their energy."""

from simulator.memory.energy import DramEnergy, dram_energy
from simulator.memory.model import Finished, Memory, Traffic
from simulator.memory.spec import MemorySpec, load_memory, standard_names

__all__ = [
    "DramEnergy",
    "Finished",
    "Memory",
    "MemorySpec",
    "Traffic",
    "dram_energy",
    "load_memory",
    "standard_names",
]
