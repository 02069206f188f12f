"""The parts that a design connects: buffers with lines, the fetcher, and units that serve batches of equal items.

Inside a batch the times are closed forms, so that the number of events does not depend on the number of items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from simulator.engine.event import Action, Engine
from simulator.engine.pipeline import BLOCKED, BUSY, STARVED, Account
from simulator.memory import Finished
from simulator.memory.model import Addresses

__all__ = ["Batch", "Buffer", "FetchQueue", "Part", "Station"]

Part = tuple[Addresses, int, int]  # where rows start, the bytes of each, and the stream that they count for


@dataclass(slots=True, eq=False)
class Batch:
    """Items that are ready from cycle `first` (the first of them) to cycle `last` (the last of them).

    `owner` is the design's own object.
    """

    items: int
    first: int
    last: int
    owner: Any = field(default=None, repr=False)


class Station:
    """A unit that serves batches in order: an item each `interval(batch)` cycles, its result `latency` cycles later.

    start = max(first ready, unit free); end = max(start + items x interval, last ready + interval). The first result
    is ready at start + interval + latency, the last at end + latency. A batch is handed to `forward` when its first
    result is ready; while it is not accepted there the unit starts no other one.

    Parameters
    ----------
    capacity: batches that may wait in front of the unit. name: for a trace of the engine.
    forward: called with the batch and an action to call once it is accepted.
    """

    def __init__(
        self,
        engine: Engine,
        interval: Callable[[Batch], int],
        latency: int,
        forward: Callable[[Batch, Action], None],
        capacity: int = 1,
        name: str = "",
    ) -> None:
        self.busy_cycles = 0
        self._name = name
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
        if self._engine.trace is not None:
            self._engine.trace.append((self._name, start, start + batch.items * interval, _said(batch)))
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


def _said(batch: Batch) -> str:
    return f"{batch.items} queries" if batch.items > 1 else "a block"


class Buffer:
    """On-chip lines that are allocated in order, with a bounded number of allocations; released in any order.

    It grants once a cycle, at its `rank`: lines that are released in a cycle are free from the next one on.
    """

    def __init__(self, engine: Engine, lines: int, outstanding: int, rank: int = 1) -> None:
        self._engine, self._rank = engine, rank
        self._lines = lines
        self._outstanding = outstanding
        self._line: deque[tuple[int, Action]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether an allocation waits for lines."""
        return bool(self._line)

    def allocate(self, lines: int, granted: Action) -> None:
        """Call `granted` when `lines` lines are free and all earlier allocations have been granted."""
        self._line.append((lines, granted))
        self._engine.wake(self._grant, self._rank)

    def release(self, lines: int) -> None:
        """Give back the lines of one allocation."""
        self._lines += lines
        self._outstanding += 1
        self._engine.wake(self._grant, self._rank)

    def _grant(self) -> None:
        while self._line and self._outstanding and self._line[0][0] <= self._lines:
            lines, granted = self._line.popleft()
            self._lines -= lines
            self._outstanding -= 1
            granted()


class FetchQueue:
    """Requests on their way to the DRAM: urgent ones first, then the waiting lines in turn; so many bursts under way.

    A request is issued while fewer than the memory's `run_ahead_bursts` bursts are under way; a long one is admitted
    burst by burst by the memory itself. It issues once a cycle, at its `rank`.

    Parameters
    ----------
    lines: how many waiting lines there are. in_order: requests finish in the order in which they were issued.
    held: whether something waits for room on the chip; with nothing under way the fetcher is then blocked.
    """

    def __init__(
        self,
        engine: Engine,
        rank: int = 2,
        lines: int = 1,
        in_order: bool = False,
        held: Callable[[], bool] = lambda: False,
    ) -> None:
        self.account = Account("fetcher", engine.trace)
        self.writer = Account("writer", engine.trace)
        self._engine, self._rank, self._in_order, self._held = engine, rank, in_order, held
        self._limit = engine.memory.run_ahead_bursts
        self._burst = engine.memory.spec.organisation.burst_bytes
        self._urgent: deque[_Request] = deque()
        self._lines: list[deque[_Request]] = [deque() for _ in range(lines)]
        self._turn = 0
        self._under_way: deque[_Request] = deque()
        self._bursts = 0  # under way
        self._writes_waiting = self._writes_under_way = 0

    def request(
        self,
        parts: Sequence[Part],
        then: Callable[[Finished], None] | None = None,
        *,
        line: int = 0,
        write: bool = False,
        urgent: bool = False,
    ) -> None:
        """Queue a request for rows; `then` is called when all parts are there.

        What it is called with has the cycle in which the first data of all parts had come, and that of the last.
        """
        bursts = sum(len(addresses) * -(-row_bytes // self._burst) for addresses, row_bytes, _ in parts)
        (self._urgent if urgent else self._lines[line]).append(_Request(parts, bursts, then, write, len(parts)))
        self._writes_waiting += write
        self._engine.wake(self._step, self._rank)

    def _step(self) -> None:
        while self._bursts < self._limit and (request := self._next()) is not None:
            self._issue(request)
        now = self._engine.now
        self.account.note(now, BUSY if self._under_way else BLOCKED if self._held() else STARVED)
        self.writer.note(now, BUSY if self._writes_under_way else BLOCKED if self._writes_waiting else STARVED)

    def _next(self) -> _Request | None:
        if self._urgent:
            return self._urgent.popleft()
        for step in range(len(self._lines)):
            index = (self._turn + step) % len(self._lines)
            if self._lines[index]:
                self._turn = (index + 1) % len(self._lines)
                return self._lines[index].popleft()
        return None

    def _issue(self, request: _Request) -> None:
        self._under_way.append(request)
        self._bursts += request.bursts
        self._writes_waiting -= request.write
        self._writes_under_way += request.write
        for addresses, row_bytes, stream in request.parts:
            self._engine.access(addresses, row_bytes, stream, partial(self._arrived, request), request.write)

    def _arrived(self, request: _Request, data: Finished) -> None:
        request.missing -= 1
        request.first = max(request.first, data.first)
        if request.missing:
            return
        if not self._in_order:
            self._under_way.remove(request)
            self._finish(request)
            return
        while self._under_way and not self._under_way[0].missing:
            self._finish(self._under_way.popleft())

    def _finish(self, request: _Request) -> None:
        self._bursts -= request.bursts
        self._writes_under_way -= request.write
        if request.then is not None:
            request.then(Finished(0, request.first, self._engine.now))
        self._engine.wake(self._step, self._rank)


@dataclass(slots=True, eq=False)
class _Request:
    parts: Sequence[Part]
    bursts: int
    then: Callable[[Finished], None] | None
    write: bool
    missing: int
    first: int = 0
