"""A memory without rows, banks or refresh: a fixed latency and a number of bytes a cycle, for tests and comparisons."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from simulator.memory.model import Addresses, Finished, Traffic

__all__ = ["IDEAL", "IdealMemory", "IdealSpec"]

IDEAL = "ideal"  # the name that `--memory` and `dram.standard` take


@dataclass(frozen=True, slots=True)
class IdealSpec:
    """The numbers of an ideal memory; it has no energies.

    Parameters
    ----------
    latency: cycles of the design's clock before the first data. bytes_per_cycle: then, all requests together.
    clock_ghz: of the design. burst_bytes: the unit in which traffic is counted.
    """

    latency: int
    bytes_per_cycle: int
    clock_ghz: float
    burst_bytes: int = 32

    name = IDEAL
    units = 0  # nothing that could be open, or refreshed

    @property
    def description(self) -> str:
        """Return the numbers in words."""
        return f"{self.latency} cycles of latency, {self.bytes_per_cycle} bytes a cycle; no rows, no energy"

    @property
    def organisation(self) -> Any:
        """Return what a design asks a memory's organisation for."""
        return SimpleNamespace(burst_bytes=self.burst_bytes, channels=1)

    @property
    def timing_ns(self) -> dict[str, float]:
        """Return the one timing that designs read: there is no refresh."""
        return {"refi": 0.0}

    @property
    def peak_gb_per_s(self) -> float:
        """Return the bandwidth, 1 GB = 1e9 bytes."""
        return self.bytes_per_cycle * self.clock_ghz


class IdealMemory:
    """Serves requests in the order in which they come, `bytes_per_cycle` a cycle, whole cycles for each.

    A request of n bytes (whole bursts) that comes in cycle t has the data path from s = max(t, free) on, for
    ceil(n / bytes_per_cycle) cycles; its first data are there in cycle s + latency + 1, its last in
    s + latency + ceil(n / bytes_per_cycle). Same interface as `simulator.memory.Memory`.
    """

    def __init__(self, spec: IdealSpec, streams: tuple[str, ...], run_ahead_bursts: int) -> None:
        self.spec = spec
        self.clock_ghz = spec.clock_ghz
        self.streams = streams
        self.run_ahead_bursts = run_ahead_bursts
        self.recorder: None = None  # there is no DRAM whose requests could be recorded
        self.reset()

    @property
    def peak_bytes_per_cycle(self) -> float:
        """Bytes a cycle."""
        return float(self.spec.bytes_per_cycle)

    def reset(self, refresh_phase: float = 0.0) -> None:
        """Start a new run at cycle 0; there is no refresh."""
        self._free = 0
        self._requests = 0
        self._pending: deque[Finished] = deque()
        self._traffic = [Traffic() for _ in self.streams]

    def submit(self, cycle: int, addresses: Addresses, row_bytes: int, stream: int, write: bool = False) -> int:
        """Add a request for rows of `row_bytes` bytes at `addresses`; return its id."""
        bursts = len(addresses) * -(-row_bytes // self.spec.burst_bytes)
        start = max(cycle, self._free)
        self._free = start + -(-bursts * self.spec.burst_bytes // self.spec.bytes_per_cycle)
        latency = self.spec.latency
        self._pending.append(Finished(self._requests, start + latency + 1, self._free + latency))
        self._traffic[stream] += Traffic(len(addresses) * row_bytes, bursts, 0, bursts)
        self._requests += 1
        return self._requests - 1

    def run_until(self, cycle: int) -> list[Finished]:
        """Return the requests whose data times are known: all that came."""
        known = list(self._pending)
        self._pending.clear()
        return known

    def traffic(self) -> dict[str, Traffic]:
        """Return the counts of every stream since the last reset."""
        return dict(zip(self.streams, self._traffic, strict=True))

    def open_cycles(self, cycle: int) -> float:
        """Return 0: there are no rows."""
        return 0.0
