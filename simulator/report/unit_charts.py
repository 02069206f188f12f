"""The pictures of the units: what they did with their cycles, their energy, and an excerpt of when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from simulator.report.charts import RIGHT, WIDTH, label_room
from simulator.report.svg import Drawing, Linear, colour
from simulator.report.text import count, energy, percent
from simulator.result import Result, Timeline, UnitResult

__all__ = ["timeline_chart", "timeline_excerpt", "units_chart"]

STATES = (
    ("busy", colour(0)),
    ("starved: waits for work", colour(5)),
    ("blocked: cannot go on", colour(6)),
    ("idle: nothing left to do", "var(--faint)"),
)
_ROW = 26.0


def units_chart(results: Sequence[Result]) -> str:
    """What each unit did, as shares of the design's cycles, with its energy beside it."""
    several = len(results) > 1
    rows = [
        (f"{result.design}: {name}" if several else name, unit)
        for result in results
        for name, unit in result.units.items()
    ]
    left = label_room([name for name, _ in rows])
    scale = Linear(1.0, left, WIDTH - 170)
    drawing = Drawing(WIDTH, 0, "time and energy by unit")
    top = drawing.legend(STATES, left, 16, WIDTH - RIGHT)
    drawing.height = top + 16 + _ROW * len(rows)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line(scale(tick), top + 6, scale(tick), drawing.height - 4)
        drawing.text(scale(tick), top, percent(tick), "middle", "tick")
    for row, (name, unit) in enumerate(rows):
        y, at = top + 12 + _ROW * row, 0.0
        drawing.text(left - 10, y + 13, name, "end")
        for (state, fill), share in zip(STATES, _shares(unit), strict=True):
            start, at = at, min(at + share, 1.0)
            said = f"{name}, {state.partition(':')[0]}: {percent(share)}"
            drawing.rectangle(scale(start), y, scale(at) - scale(start), 18, fill, said)
        drawing.text(scale(1.0) + 8, y + 13, f"{percent(unit.busy)} busy")
        drawing.text(WIDTH - 8, y + 13, energy(unit.energy_pj) if unit.energy_pj else "", "end")
    return drawing.render()


def _shares(unit: UnitResult) -> tuple[float, float, float, float]:
    """Return the shares of busy, starved, blocked and idle; older results know the first only."""
    others = (unit.starved_cycles, unit.blocked_cycles, unit.idle_cycles)
    total = unit.busy_cycles + sum(cycles or 0 for cycles in others)
    if None in others or not total:
        return (min(unit.busy, 1.0), 0.0, 0.0, 0.0)
    starved, blocked, idle = ((cycles or 0) / total for cycles in others)
    return (unit.busy_cycles / total, starved, blocked, idle)


def timeline_chart(results: Sequence[Result]) -> str:
    """How busy each unit was over the longest op of each design; empty where no result has a timeline."""

    def fill(drawing: Drawing, timeline: Timeline, scale: Linear, top: float) -> None:
        for row, (unit, shares) in enumerate(timeline.busy.items()):
            for start, end, share in _runs(shares):
                x, until = (scale(index * timeline.bin_cycles) for index in (start, end))
                said = f"{unit}, cycles {start * timeline.bin_cycles:,.0f} to {end * timeline.bin_cycles:,.0f}"
                said = f"{said}: {percent(share)} busy"
                drawing.rectangle(x, top + 22 * row, until - x, 16, colour(row), said, share)

    return _units_over_time(results, "the longest op", lambda timeline: timeline.cycles, _title, fill)


def timeline_excerpt(results: Sequence[Result]) -> str:
    """What the units worked on at the start of that op, item by item."""

    def title(name: str, timeline: Timeline) -> str:
        return f"{_title(name, timeline)}, first {timeline.end:,} cycles"

    def fill(drawing: Drawing, timeline: Timeline, scale: Linear, top: float) -> None:
        rows = {unit: row for row, unit in enumerate(timeline.busy)}
        for span in timeline.spans:
            x, until = scale(span.start), min(scale(span.end), WIDTH - RIGHT)
            gap = 0.6 if until - x > 2 else 0.0  # so that neighbours can be told apart
            said = f"{span.unit}: {span.what or 'busy'}, cycles {span.start:,} to {span.end:,}"
            row = rows[span.unit]
            drawing.rectangle(x, top + 22 * row, max(until - x - gap, 0.4), 16, colour(row), said)

    return _units_over_time(results, "the start of the longest op", lambda timeline: timeline.end, title, fill)


def _units_over_time(
    results: Sequence[Result],
    label: str,
    cycles: Callable[[Timeline], float],
    title: Callable[[str, Timeline], str],
    fill: Callable[[Drawing, Timeline, Linear, float], None],
) -> str:
    """Draw a panel for each result with a timeline, a row for each unit; `fill` draws into the rows."""
    kept = _timelines(results)
    if not kept:
        return ""
    left = label_room([unit for _, timeline in kept for unit in timeline.busy])
    drawing = Drawing(WIDTH, sum(_height(timeline) for _, timeline in kept), label)
    y = 0.0
    for name, timeline in kept:
        scale = Linear(float(cycles(timeline)), left, WIDTH - RIGHT)
        _axis(drawing, scale, y, _height(timeline), title(name, timeline))
        for row, unit in enumerate(timeline.busy):
            drawing.text(left - 10, y + 28 + 22 * row + 12, unit, "end")
        fill(drawing, timeline, scale, y + 28)
        y += _height(timeline)
    return drawing.render()


def _timelines(results: Sequence[Result]) -> list[tuple[str, Timeline]]:
    several = len(results) > 1
    return [(f"{r.design}, " if several else "", r.timeline) for r in results if r.timeline is not None]


def _height(timeline: Timeline) -> float:
    return 28 + 22 * len(timeline.busy) + 40


def _title(name: str, timeline: Timeline) -> str:
    return f"{name}layer {timeline.layer}, {timeline.phase} step {timeline.step}: {count(timeline.cycles)} cycles"


def _axis(drawing: Drawing, scale: Linear, y: float, height: float, title: str) -> None:
    bottom = y + height - 36
    drawing.text(scale.start, y + 16, title)
    for tick in scale.ticks():
        drawing.line(scale(tick), y + 24, scale(tick), bottom)
        drawing.text(scale(tick), bottom + 14, f"{tick:,.0f}", "middle", "tick")


def _runs(shares: Sequence[float]) -> Iterator[tuple[int, int, float]]:
    """Yield (first bin, bin behind the last, share) of runs of bins with nearly equal shares that are not 0."""
    start = 0
    for index in range(1, len(shares) + 1):
        if index == len(shares) or round(shares[index], 1) != round(shares[start], 1):
            mean = sum(shares[start:index]) / (index - start)
            if mean > 0:
                yield start, index, max(mean, 0.04)
            start = index
