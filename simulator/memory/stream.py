"""Long contiguous transfers: simulated up to a few refresh intervals, in closed form beyond."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._known: dict[tuple[int, bool], StreamTime] = {}

    def time(self, size: int, write: bool = False) -> StreamTime:
        """Return the cost of reading or writing `size` contiguous bytes. The memory is reset.

        Beyond 2 S, S = SAMPLE_BYTES, the steady state is extrapolated:
        T(size) = T(2 S) + (size - 2 S) (T(2 S) - T(S)) / S, and activations alike; bursts are exact.
        """
        key = (size, write)
        if key not in self._known:
            long = size > 2 * SAMPLE_BYTES
            self._known[key] = self._extrapolate(size, write) if long else self._simulate(size, write)
        return self._known[key]

    def _simulate(self, size: int, write: bool) -> StreamTime:
        self._memory.reset(0.5)  # half way between two refreshes
        self._memory.submit(0, np.zeros(1, dtype=np.int64), size, 0, write)
        finished = self._memory.run_until(_END)
        return StreamTime(finished[0].last, self._memory.traffic()[self._memory.streams[0]])

    def _extrapolate(self, size: int, write: bool) -> StreamTime:
        half, full = self.time(SAMPLE_BYTES, write), self.time(2 * SAMPLE_BYTES, write)
        more = (size - 2 * SAMPLE_BYTES) / SAMPLE_BYTES
        cycles = round(full.cycles + more * (full.cycles - half.cycles))
        opened = full.traffic.activations + more * (full.traffic.activations - half.traffic.activations)
        bursts = -(-size // self._memory.spec.organisation.burst_bytes)
        return StreamTime(cycles, Traffic(size, bursts, round(opened), bursts - round(opened)))
