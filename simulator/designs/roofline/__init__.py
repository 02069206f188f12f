"""Processors as two ceilings, a rate of operations and a bandwidth: this machine's measured, others' from a sheet."""

from simulator.designs.roofline.design import Roofline

__all__ = ["Roofline"]
