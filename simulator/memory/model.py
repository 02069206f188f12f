"""The DRAM beside the event engine: requests go in at a cycle, completions come out, traffic is counted by stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.memory.compiled import compiled, configuration
from simulator.memory.recorder import Recorder
from simulator.memory.spec import MemorySpec

__all__ = ["Finished", "Memory", "Traffic"]

Addresses = npt.NDArray[np.int64]
CHANNEL_RATE = 1  # bursts that a crossbar passes to a channel in a tick


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one stream moved: bytes asked for, bursts, row activations, and bursts that found their row open.

    A row hit is a burst that is not the first one after an activation of its row. Reads of lines that still waited to
    be written are answered by the controller and count nowhere.
    """

    useful_bytes: int = 0
    bursts: int = 0
    activations: int = 0
    row_hits: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.useful_bytes + other.useful_bytes,
            self.bursts + other.bursts,
            self.activations + other.activations,
            self.row_hits + other.row_hits,
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished request: its data crossed the pins from cycle `first` to cycle `last` of the design's clock."""

    request: int
    first: int
    last: int


class Memory:
    """The timing model of one memory, in cycles of the design's clock.

    Parameters
    ----------
    spec: the memory. clock_ghz: the design's clock. streams: names of the traffic's sources.
    run_ahead_bursts: how far bursts may be issued ahead of the oldest one not yet served (data FIFO space).

    Raises
    ------
    MissingDependencyError: simulator._sim is not built.
    ConfigError: an address map or timing that contradicts itself.
    """

    def __init__(self, spec: MemorySpec, clock_ghz: float, streams: tuple[str, ...], run_ahead_bursts: int) -> None:
        self.spec = spec
        self.clock_ghz = clock_ghz
        self.streams = streams
        self.run_ahead_bursts = run_ahead_bursts
        self.recorder: Recorder | None = None  # if set, gets every request
        self._ticks_per_cycle = spec.clock_ghz / clock_ghz
        self._known: list[tuple[int, int, int]] = []  # completions that are still to be returned
        # A crossbar passes one burst per channel and cycle, and a full channel holds back no other.
        admission = {"program_order": 0, "channel_rate": CHANNEL_RATE, "run_ahead": run_ahead_bursts}
        self._dram = compiled().Dram(**configuration(spec, admission), streams=len(streams))

    @property
    def capacity_bytes(self) -> int:
        """Size of the memory."""
        return int(self._dram.capacity)

    @property
    def peak_bytes_per_cycle(self) -> float:
        """Peak bandwidth per cycle of the design's clock."""
        return self.spec.peak_bytes_per_tick * self._ticks_per_cycle

    def reset(self, refresh_phase: float = 0.0) -> None:
        """Start a new run at cycle 0 with all rows closed, `refresh_phase` x tREFI after the last refresh."""
        phase = int(refresh_phase * self.spec.timing_ticks["refi"])
        self._dram.reset(phase)
        self._known.clear()
        if self.recorder is not None:
            self.recorder.reset(phase)

    def submit(self, cycle: int, addresses: Addresses, row_bytes: int, stream: int, write: bool = False) -> int:
        """Add a request for rows of `row_bytes` bytes at `addresses`, in that order; return its id.

        Raises
        ------
        InvalidValueError: an address outside the memory, or a cycle in the past.
        """
        tick = max(math.ceil(round(cycle * self._ticks_per_cycle, 6)), self._dram.now)
        if self._ticks_per_cycle != 1:  # otherwise no tick lies between the last action and this one
            while done := self._dram.run_until(tick):
                self._known += done
        request: int = self._dram.enqueue(tick, addresses, row_bytes, stream, write)
        if self.recorder is not None:
            self.recorder.request(tick, addresses, row_bytes, stream, write)
        return request

    def run_until(self, cycle: int) -> list[Finished]:
        """Advance to `cycle`, or to the first completion before it; return the requests whose data times are known."""
        tick = math.floor(round(cycle * self._ticks_per_cycle, 6))
        ratio, done = self._ticks_per_cycle, self._known or self._dram.run_until(tick)
        self._known = []
        return [
            Finished(request, math.floor(round(first / ratio, 6)), math.ceil(round(last / ratio, 6)))
            for request, first, last in done
        ]

    @property
    def admission_settings(self) -> dict[str, str]:
        """How bursts enter the controllers, as the settings of `simulate dram`."""
        numbers = {"order": "channel", "channel_rate": CHANNEL_RATE, "run_ahead": self.run_ahead_bursts}
        return {f"admission.{name}": str(value) for name, value in numbers.items()}

    def traffic(self) -> dict[str, Traffic]:
        """Return the counts of every stream since the last reset."""
        return {name: Traffic(*counts) for name, counts in zip(self.streams, self._dram.counts(), strict=True)}

    def open_cycles(self, cycle: int) -> float:
        """Return the cycles up to `cycle` with an open row, summed over the ranks of all (pseudo-)channels."""
        return float(self._dram.active_ticks(math.ceil(cycle * self._ticks_per_cycle)) / self._ticks_per_cycle)

    def latencies(self) -> dict[str, Any]:
        """Return the latencies of each stream's reads since the last reset: _sim.LatencyHistogram, in ticks."""
        return {name: self._dram.latency(stream) for stream, name in enumerate(self.streams)}
