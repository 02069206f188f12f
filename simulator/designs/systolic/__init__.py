"""A dense systolic array with the multipliers, SRAM and bandwidth of SpAtten: what pruning is compared with."""

from simulator.designs.systolic.design import Systolic

__all__ = ["Systolic"]
