"""Long contiguous transfers: simulated up to a few refresh intervals, in closed form beyond."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.memory.ideal import IdealMemory, IdealSpec
from simulator.memory.model import Memory, Traffic

__all__ = ["StreamTime", "StreamTimer"]

# Twice this many bytes are simulated; what follows repeats with every row of every bank, which is far shorter.
SAMPLE_BYTES = 4 << 20
_END = 1 << 50


@dataclass(frozen=True, slots=True)
class StreamTime:
    """Cycles and traffic of one contiguous transfer by itself."""

    cycles: int
    traffic: Traffic


class StreamTimer:
    """Times contiguous transfers on `memory`, each size once."""

    def __init__(self, memory: Memory | IdealMemory) -> None:
        self._memory = memory
        self._without_refresh = memory
        if isinstance(memory, Memory):
            quiet = memory.spec.with_settings({"controller.refresh": "none"})
            self._without_refresh = Memory(quiet, memory.clock_ghz, memory.streams, memory.run_ahead_bursts)
        self._known: dict[tuple[int, bool], StreamTime] = {}

    def time(self, size: int, write: bool = False) -> StreamTime:
        """Return the cost of reading or writing `size` contiguous bytes. The memory is reset.

        Beyond 2 S, S = SAMPLE_BYTES, the steady state is extrapolated. Without refresh time is linear:
        T0(size) = T0(2 S) + (size - 2 S) (T0(2 S) - T0(S)) / S. Each refresh adds what it added on average over the
        first 2 S bytes: T = T0 + c n(T), n(T) the refreshes up to T. Activations are proportional, bursts are exact.
        """
        key = (size, write)
        if key not in self._known:
            long = size > 2 * SAMPLE_BYTES and isinstance(self._memory, Memory)
            self._known[key] = self._extrapolate(size, write) if long else _simulate(self._memory, size, write)
        return self._known[key]

    def _extrapolate(self, size: int, write: bool) -> StreamTime:
        more = (size - 2 * SAMPLE_BYTES) / SAMPLE_BYTES
        half, full = (_simulate(self._without_refresh, n * SAMPLE_BYTES, write) for n in (1, 2))
        measured = self.time(2 * SAMPLE_BYTES, write)
        quiet = full.cycles + more * (full.cycles - half.cycles)
        each = (measured.cycles - full.cycles) / max(self._refreshes(measured.cycles), 1)
        cycles = quiet
        while (longer := quiet + each * self._refreshes(cycles)) > cycles:
            cycles = longer
        opened = measured.traffic.activations * size / (2 * SAMPLE_BYTES)
        bursts = -(-size // self._memory.spec.organisation.burst_bytes)
        return StreamTime(round(cycles), Traffic(size, bursts, round(opened), bursts - round(opened)))

    def _refreshes(self, cycles: float) -> int:
        """Refreshes up to a cycle, the first one half an interval after the start."""
        spec = self._memory.spec
        if isinstance(spec, IdealSpec) or spec.controller.refresh == "none":
            return 0
        return int(cycles / (spec.timing_ns["refi"] * self._memory.clock_ghz) + 0.5)


def _simulate(memory: Memory | IdealMemory, size: int, write: bool) -> StreamTime:
    recorder, memory.recorder = memory.recorder, None  # a measurement, not a request of the design
    memory.reset(0.5)  # half way between two refreshes
    memory.submit(0, np.zeros(1, dtype=np.int64), size, 0, write)
    finished = memory.run_until(_END)
    memory.recorder = recorder
    return StreamTime(finished[0].last, memory.traffic()[memory.streams[0]])
