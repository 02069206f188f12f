"""Formats of other simulators: the same requests and the same memory for DRAMsim3 and Ramulator 2."""

from simulator.exchange.folder import TOOLS, Exported, export_trace
from simulator.exchange.requests import Bursts, read_bursts

__all__ = ["TOOLS", "Bursts", "Exported", "export_trace", "read_bursts"]
