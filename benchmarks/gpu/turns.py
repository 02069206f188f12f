"""Calls that take turns on a device which works while the host queues them: the host's time must not be measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["FIRST_WAIT", "MOST_WAIT", "Queued", "Times", "take_turns"]

FIRST_WAIT, MOST_WAIT = 400_000, 25_600_000
"""Cycles that the device waits before a call, so that the host has queued all of it by then: 0.2 to 13 ms at 2 GHz."""
_LONGER = 4
_LEAST = 3
"""Rounds that count, whatever they take."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A call that was queued. hidden: whether the device still waited then, so that the host's time is not in it.

    seconds: of the call on the device, once that has finished.
    """

    hidden: bool
    seconds: Callable[[], float]


class Queue(Protocol):
    """What take_turns asks of a device."""

    def queue(self, call: Callable[[], object], cycles: int) -> Queued:
        """Queue a call behind a wait of so many cycles."""

    def finish(self) -> None:
        """Return when the device has done all that was queued."""


@dataclass(slots=True)
class Times:
    """seconds: of each call by name, one a round. exposed: how many of them the host's time may be in."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    exposed: dict[str, int] = field(default_factory=dict)


def take_turns(calls: Mapping[str, Callable[[], object]], device: Queue, budget_s: float, most: int = 100) -> Times:
    """Time every call once a round, forwards and backwards in turn, in at most `budget_s` seconds but a few rounds.

    Where the device was ready for a call before the host had queued it, its wait becomes longer and the round does not
    count. A call that is not hidden by the longest wait, since it waits for the device itself, counts as exposed.
    """
    found = Times({name: [] for name in calls}, dict.fromkeys(calls, 0))
    waits = dict.fromkeys(calls, FIRST_WAIT)
    order, turn, rounds, stop = list(calls.items()), 0, 0, time.perf_counter() + budget_s
    while rounds < most and (rounds < _LEAST or time.perf_counter() < stop):
        queued = {name: device.queue(call, waits[name]) for name, call in order[:: 1 if turn % 2 else -1]}
        device.finish()
        turn += 1
        short = [name for name, one in queued.items() if not one.hidden and waits[name] < MOST_WAIT]
        waits |= {name: _LONGER * waits[name] for name in short if turn > 1}
        if short or turn == 1:  # the first round is the warm-up
            continue
        rounds += 1
        for name, one in queued.items():
            found.seconds[name].append(one.seconds())
            found.exposed[name] += not one.hidden
    return found
