"""The excerpt of a result that shows what the units did when, in one op."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Timeline", "TimelineSpan"]


@dataclass(frozen=True, slots=True)
class TimelineSpan:
    """A unit worked on one thing from cycle `start` to cycle `end` of its op."""

    unit: str
    start: int
    end: int
    what: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the units did when, in one op of `cycles` cycles.

    Parameters
    ----------
    layer, sequence, phase, step: which op. bin_cycles: of each entry of busy.
    busy: for each unit, the busy share of each interval of the op.
    end: the spans are those that start before this cycle; those of a unit do not overlap.
    """

    layer: int | None
    sequence: int | None
    phase: str
    step: int
    cycles: int
    bin_cycles: float
    busy: dict[str, tuple[float, ...]]
    end: int
    spans: tuple[TimelineSpan, ...]
