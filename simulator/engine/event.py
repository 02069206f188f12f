"""The event engine: actions at cycles, and a DRAM that advances between them.

Deterministic: actions at the same cycle run in the order in which they were asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial

from simulator.memory import Finished, Memory
from simulator.memory.model import Addresses

__all__ = ["Action", "Engine"]

Action = Callable[[], None]
_NEVER = 1 << 50


class Engine:
    """Runs actions in order of their cycle; `memory` runs exactly as far as the next action, never ahead of it."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.now = 0
        self.memory_active_cycles = 0
        self._heap: list[tuple[int, int, Action]] = []
        self._asked = 0
        self._waiting: dict[int, Callable[[Finished], None]] = {}
        self._active_since = 0

    def at(self, cycle: int, action: Action) -> None:
        """Do `action` at `cycle`, or now if that has passed."""
        self._asked += 1
        heapq.heappush(self._heap, (max(cycle, self.now), self._asked, action))

    def access(
        self, addresses: Addresses, row_bytes: int, stream: int, then: Callable[[Finished], None], write: bool = False
    ) -> None:
        """Send a request for rows to the DRAM now; `then` is called when its last data has crossed the pins."""
        if not self._waiting:
            self._active_since = self.now
        request = self.memory.submit(self.now, addresses, row_bytes, stream, write)
        self._waiting[request] = then

    def run(self) -> int:
        """Run until nothing is left to do; return the cycle of the last action."""
        while True:
            if self._waiting:
                limit = self._heap[0][0] if self._heap else _NEVER
                for finished in self.memory.run_until(limit):
                    self.at(finished.last, partial(self._finish, finished))
            if not self._heap:
                return self.now
            self.now, _, action = heapq.heappop(self._heap)
            action()

    def _finish(self, finished: Finished) -> None:
        then = self._waiting.pop(finished.request)
        if not self._waiting:
            self.memory_active_cycles += self.now - self._active_since
        then(finished)
