"""The units of a pipeline that works item by item: what a unit does in a cycle, and the account of its cycles.

docs/simulator.md states the rules so that a model which steps every unit cycle by cycle gives the same numbers. Here a
unit is looked at only in the cycles in which something can change for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from simulator.engine.event import Engine, Span
from simulator.engine.interface import UnitCycles

__all__ = ["BLOCKED", "BUSY", "HELD", "STARVED", "Account", "Held", "Unit"]

BUSY, STARVED, BLOCKED = range(3)

Item = TypeVar("Item")


class Held:
    """What a source gives in place of an item that is there but may not start: the unit is blocked, not starved."""


HELD = Held()


class Account:
    """The cycles of a unit by what it did. `state` holds from cycle `since` on, which lies ahead while it works.

    Parameters
    ----------
    name: of the unit. trace: if given, gets every run of busy cycles.
    """

    __slots__ = ("_counts", "_last", "_name", "_trace", "since", "state")

    def __init__(self, name: str = "", trace: list[Span] | None = None) -> None:
        self._name, self._trace = name, trace
        self._counts = [0, 0, 0]
        self._last = 0  # the end of the last cycle that was not starved
        self.since = 0
        self.state = STARVED

    @property
    def busy(self) -> int:
        """Busy cycles so far."""
        return self._counts[BUSY]

    def note(self, now: int, state: int) -> None:
        """Say that `state` holds from `now` on, or from the end of the work under way."""
        if now > self.since:
            self._counts[self.state] += now - self.since
            if self.state == BUSY and self._trace is not None:
                self._trace.append((self._name, self.since, now, ""))
            self.since = now
            if self.state != STARVED:
                self._last = now
        self.state = state

    def work(self, now: int, cycles: int, before: int = 0, what: object = "") -> None:
        """Count `cycles` of work from `now` on; `before` cycles that were counted as starved were work as well."""
        self.note(now, STARVED)
        if self._trace is not None:
            self._trace.append((self._name, now - before, now + cycles, str(what)))
        self._counts[BUSY] += cycles + before
        self._counts[STARVED] -= before
        self._last = self.since = now + cycles

    def close(self, total: int) -> UnitCycles:
        """Return the account of `total` cycles: what it starved at the end, it was idle."""
        self.note(total, STARVED)
        busy, starved, blocked = self._counts
        return UnitCycles(busy, starved - (total - self._last), blocked, total - self._last)


class Unit(Generic[Item]):
    """Takes an item at a time; its result leaves `latency` cycles after the work on it, in order.

    In a cycle it first hands over the results that are due, as far as the next unit has room; then, if it is free
    and no result is overdue, it starts the next item.

    Parameters
    ----------
    rank: its place in a cycle. source: gives the next item, None if there is none, HELD if it may not start.
    service: cycles of work of an item, at least 1. room, deliver: of the next unit.
    ahead: cycles of the work on an item that were done while its data arrived, given since when the unit was free;
        at most all but one count. more: whether to look for another item at the end of one, without being woken.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        rank: int,
        *,
        source: Callable[[], Item | Held | None],
        service: Callable[[Item], int],
        latency: int,
        room: Callable[[], bool],
        deliver: Callable[[Item], None],
        more: Callable[[], bool],
        ahead: Callable[[Item, int], int] | None = None,
    ) -> None:
        self.account = Account(name, engine.trace)
        self._engine, self._rank = engine, rank
        self._source, self._service, self._ahead = source, service, ahead
        self._latency, self._room, self._deliver, self._more = latency, room, deliver, more
        self._results: deque[tuple[int, Item]] = deque()
        self._free_at = 0
        self._idle_since = 0
        self._overdue = False
        self._called = -1  # a cycle in which it will look for an item

    def wake(self) -> None:
        """Look for an item, or for room, as soon as possible."""
        if self._free_at > self._engine.now and not self._overdue:
            self._call(self._free_at)
        else:
            self._engine.wake(self._step, self._rank)

    def room_freed(self) -> None:
        """Hand over what is overdue: the next unit has room from the next cycle on."""
        if self._overdue:
            self._engine.wake(self._step, self._rank)

    def _call(self, cycle: int) -> None:
        if self._called != cycle:
            self._called = cycle
            self._engine.at(cycle, self._step, self._rank)

    def _step(self) -> None:
        now, results = self._engine.now, self._results
        while results and results[0][0] <= now and self._room():
            self._deliver(results.popleft()[1])
        if results and results[0][0] <= now:
            self._overdue = True
            self.account.note(now, BLOCKED)
            return
        if self._overdue:
            self._overdue = False
            self._idle_since = max(self._idle_since, now)
            if now < self._free_at:
                self._call(self._free_at)
        if now < self._free_at:
            self.account.note(now, STARVED)
            return
        item = self._source()
        if item is None:
            self.account.note(now, STARVED)
        elif isinstance(item, Held):
            self.account.note(now, BLOCKED)
        else:
            self._start(item, now)

    def _start(self, item: Item, now: int) -> None:
        cycles = self._service(item)
        done = 0 if self._ahead is None else min(max(self._ahead(item, self._idle_since), 0), cycles - 1)
        self.account.work(now, cycles - done, done, item)
        self._free_at = self._idle_since = now + cycles - done
        due = self._free_at + self._latency
        self._results.append((due, item))
        self._engine.at(due, self._step, self._rank)
        if self._more():
            self._call(self._free_at)
