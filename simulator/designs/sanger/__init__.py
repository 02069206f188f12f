"""Sanger: a mask predicted in 4 bits, packed for a score-stationary array (MICRO 2021)."""

from simulator.designs.sanger.design import Sanger

__all__ = ["Sanger"]
