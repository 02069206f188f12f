"""The parts that a design connects: units that serve batches, bounded queues, credits, buffers and the fetcher.

A batch is a run of equal items (queries of one head) that stream through the units one behind the other. Inside a batch
the times are closed forms, so that the number of events does not depend on the number of items; between batches
everything is an event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from simulator.engine.event import Action, Engine
from simulator.memory import Finished
from simulator.memory.model import Addresses

__all__ = ["Batch", "Buffer", "Credits", "FetchQueue", "InOrder", "Station"]


@dataclass(slots=True, eq=False)
class Batch:
    """Items that are ready from cycle `first` (the first of them) to cycle `last` (the last of them).

    `owner` is the design's own object. `again` of the items must be computed a second time; the batch that does it
    names the `original`.
    """

    items: int
    first: int
    last: int
    owner: Any = field(default=None, repr=False)
    again: int = 0
    original: Batch | None = field(default=None, repr=False)


class Station:
    """A unit that serves batches in order: an item each `interval(batch)` cycles, its result `latency` cycles later.

    start = max(first ready, unit free); end = max(start + items x interval, last ready + interval). The first result
    is ready at start + interval + latency, the last at end + latency. A batch is handed to `forward` when its first
    result is ready; while it is not accepted there the unit starts no other one.

    Parameters
    ----------
    capacity: batches that may wait in front of the unit.
    forward: called with the batch and an action to call once it is accepted.
    """

    def __init__(
        self,
        engine: Engine,
        interval: Callable[[Batch], int],
        latency: int,
        forward: Callable[[Batch, Action], None],
        capacity: int = 1,
    ) -> None:
        self.busy_cycles = 0
        self._engine = engine
        self._interval = interval
        self._latency = latency
        self._forward = forward
        self._capacity = capacity
        self._queue: deque[Batch] = deque()
        self._refused: deque[tuple[Batch, Action]] = deque()
        self._free_at = 0
        self._serving = False
        self._refusals = 0  # batches that left the unit and were not yet accepted: the unit stalls

    def offer(self, batch: Batch, accepted: Action) -> None:
        """Queue `batch`, or keep it waiting until the queue has room; `accepted` is called when it is in."""
        if len(self._queue) < self._capacity:
            self._queue.append(batch)
            accepted()
            self._serve()
        else:
            self._refused.append((batch, accepted))

    def offer_urgent(self, batch: Batch) -> None:
        """Queue `batch` before all others, whether there is room or not (space is reserved for recomputation)."""
        self._queue.appendleft(batch)
        self._serve()

    def _serve(self) -> None:
        if self._serving or self._refusals or not self._queue:
            return
        batch = self._queue.popleft()
        interval = self._interval(batch)
        start = max(batch.first, self._free_at)
        self._free_at = max(start + batch.items * interval, batch.last + interval)
        self.busy_cycles += batch.items * interval
        self._serving = True
        batch.first, batch.last = start + interval + self._latency, self._free_at + self._latency
        # In a cycle in which both happen, the hand-over is first: a refusal must be known before the next batch starts.
        self._engine.at(batch.first, partial(self._hand_over, batch))
        self._engine.at(self._free_at, self._end)
        if self._refused and len(self._queue) < self._capacity:
            waiting, accepted = self._refused.popleft()
            self._queue.append(waiting)
            accepted()

    def _end(self) -> None:
        self._serving = False
        self._serve()

    def _hand_over(self, batch: Batch) -> None:
        self._refusals += 1
        self._forward(batch, self._accepted)

    def _accepted(self) -> None:
        self._refusals -= 1
        if not self._refusals and not self._serving:
            self._free_at = max(self._free_at, self._engine.now)
            self._serve()


class InOrder:
    """Passes batches on in the order in which they were added, each once it has been marked ready.

    A batch that had to wait for others counts as ready when it passes.
    """

    def __init__(self, engine: Engine, forward: Callable[[Batch, Action], None]) -> None:
        self._engine = engine
        self._forward = forward
        self._queue: deque[Batch] = deque()
        self._ready: dict[int, int] = {}  # cycle by batch
        self._busy = False

    def add(self, batch: Batch) -> None:
        """Take the next place in the order."""
        self._queue.append(batch)

    def ready(self, batch: Batch) -> None:
        """Let `batch` pass as soon as all batches before it have."""
        self._ready[id(batch)] = self._engine.now
        self._pass_on()

    def _pass_on(self) -> None:
        if not self._busy and self._queue and id(self._queue[0]) in self._ready:
            self._busy = True
            batch = self._queue.popleft()
            if self._ready.pop(id(batch)) < self._engine.now:
                batch.first = max(batch.first, self._engine.now)
                batch.last = max(batch.last, batch.first)
            self._forward(batch, self._accepted)

    def _accepted(self) -> None:
        self._busy = False
        self._pass_on()


class Credits:
    """A fixed number of permits; who finds none waits in line."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._line: deque[Action] = deque()

    def take(self, granted: Action) -> None:
        """Call `granted` as soon as a permit is free."""
        if self._left:
            self._left -= 1
            granted()
        else:
            self._line.append(granted)

    def give(self) -> None:
        """Return a permit."""
        if self._line:
            self._line.popleft()()
        else:
            self._left += 1


class Buffer:
    """On-chip lines that are allocated and released in order, with a bounded number of allocations."""

    def __init__(self, lines: int, outstanding: int) -> None:
        self._lines = lines
        self._outstanding = outstanding
        self._line: deque[tuple[int, Action]] = deque()

    def allocate(self, lines: int, granted: Action) -> None:
        """Call `granted` when `lines` lines are free and all earlier allocations have been granted."""
        self._line.append((lines, granted))
        self._grant()

    def release(self, lines: int) -> None:
        """Give back the lines of one allocation."""
        self._lines += lines
        self._outstanding += 1
        self._grant()

    def _grant(self) -> None:
        while self._line and self._outstanding and self._line[0][0] <= self._lines:
            lines, granted = self._line.popleft()
            self._lines -= lines
            self._outstanding -= 1
            granted()


class FetchQueue:
    """Requests on their way to the DRAM: in order, urgent ones first, a bounded number of bursts under way.

    A request is issued while fewer than the memory's `run_ahead_bursts` bursts are under way; a long one is admitted
    burst by burst by the memory itself.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._limit = engine.memory.run_ahead_bursts
        self._burst = engine.memory.spec.organisation.burst_bytes
        self._urgent: deque[Action] = deque()
        self._normal: deque[Action] = deque()
        self._under_way = 0

    def request(
        self,
        addresses: Addresses,
        row_bytes: int,
        stream: int,
        then: Callable[[Finished], None] | None = None,
        write: bool = False,
        urgent: bool = False,
    ) -> None:
        """Queue a request for rows; `then` is called when it is finished."""
        bursts = len(addresses) * -(-row_bytes // self._burst)

        def finished(done: Finished) -> None:
            self._under_way -= bursts
            if then is not None:
                then(done)
            self._issue()

        def send() -> None:
            self._under_way += bursts
            self._engine.access(addresses, row_bytes, stream, finished, write)

        (self._urgent if urgent else self._normal).append(send)
        self._issue()

    def _issue(self) -> None:
        while self._under_way < self._limit and (self._urgent or self._normal):
            (self._urgent or self._normal).popleft()()
