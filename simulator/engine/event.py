"""The event engine: actions at cycles, and a DRAM that advances between them.

Deterministic: within a cycle actions run in the order of their rank, those of equal rank in the order in which they
were asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial

from simulator.memory import Finished, Memory
from simulator.memory.ideal import IdealMemory
from simulator.memory.model import Addresses

__all__ = ["Action", "Engine", "Span"]

Action = Callable[[], None]
Span = tuple[str, int, int, str]  # a unit, the cycles from and to, what it worked on
_NEVER = 1 << 50


class Engine:
    """Runs actions in order of their cycle; `memory` runs exactly as far as the next action, never ahead of it.

    Parameters
    ----------
    trace: if given, units add to it what they did when.
    """

    def __init__(self, memory: Memory | IdealMemory, trace: list[Span] | None = None) -> None:
        self.memory = memory
        self.trace = trace
        self.now = 0
        self.memory_end = 0  # the cycle in which the last data so far crossed the pins
        self.memory_active_cycles = 0
        self._rank = -1  # of the action that runs
        self._heap: list[tuple[int, int, int, Action]] = []
        self._asked = 0
        self._waiting: dict[int, Callable[[Finished], None]] = {}
        self._active_since = 0
        self._memory_at = -1  # the memory has nothing to say up to this cycle

    def at(self, cycle: int, action: Action, rank: int = 0) -> None:
        """Do `action` at `cycle`, or now if that has passed."""
        self._asked += 1
        heapq.heappush(self._heap, (max(cycle, self.now), rank, self._asked, action))

    def wake(self, action: Action, rank: int) -> None:
        """Do `action` as soon as its rank has its turn: in this cycle if that is still to come, else in the next."""
        self.at(self.now if rank > self._rank else self.now + 1, action, rank)

    def access(
        self, addresses: Addresses, row_bytes: int, stream: int, then: Callable[[Finished], None], write: bool = False
    ) -> None:
        """Send a request for rows to the DRAM now; `then` is called when its last data has crossed the pins."""
        if not self._waiting:
            self._active_since = self.now
        request = self.memory.submit(self.now, addresses, row_bytes, stream, write)
        self._waiting[request] = then
        self._memory_at = -1

    def run(self) -> int:
        """Run until nothing is left to do; return the cycle of the last action."""
        heap = self._heap
        while True:
            if self._waiting:
                limit = heap[0][0] if heap else _NEVER
                if limit > self._memory_at:
                    finished = self.memory.run_until(limit)
                    for data in finished:
                        self.at(data.last, partial(self._finish, data))
                    if not finished:
                        self._memory_at = limit
            if not heap:
                return self.now
            self.now, self._rank, _, action = heapq.heappop(heap)
            action()

    def _finish(self, data: Finished) -> None:
        then = self._waiting.pop(data.request)
        self.memory_end = max(self.memory_end, data.last)
        if not self._waiting:
            self.memory_active_cycles += self.now - self._active_since
        then(data)
