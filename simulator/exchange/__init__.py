"""Formats of other simulators: requests and memories (DRAMsim3, Ramulator 2), and products (SCALE-Sim, Timeloop).

`simulator.exchange.model` writes the latter; it is not imported here, as it needs the designs.
"""

from simulator.exchange.folder import TOOLS, Exported, export_trace
from simulator.exchange.requests import Bursts, read_bursts

__all__ = ["TOOLS", "Bursts", "Exported", "export_trace", "read_bursts"]
