"""A sweep as one HTML page: its points in two pictures, and the best of them as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from simulator.explore.pareto import front
from simulator.explore.records import Record
from simulator.explore.table import ERROR, OBJECTIVES, SIZES, by_work, goals, objectives, varied
from simulator.report.charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, short
from simulator.report.data_table import DataTable
from simulator.report.page import html_document, table_html
from simulator.report.svg import Drawing, Log, colour
from simulator.report.text import area, energy, percent, seconds

__all__ = ["best", "best_table", "failures_table", "sweep_page"]

_SHOWN: dict[str, Callable[[float], str]] = {"time": seconds, "energy": energy, "area": area, ERROR: percent}
MOST_ROWS, MOST_DOTS = 1000, 5000
HEIGHT = 380.0
Known = tuple[Record, tuple[float, ...]]


def best(records: Sequence[Record], scope: str, names: Sequence[str] = OBJECTIVES) -> list[Known]:
    """Return the points that no other beats in all of `names`, with these values, the fastest first."""
    known = _known(records, scope, names)
    chosen = [known[index] for index in front([values for _, values in known])]
    return sorted(chosen, key=lambda item: item[1])


def _known(records: Sequence[Record], scope: str, names: Sequence[str]) -> list[Known]:
    found = ((record, objectives(record, scope, names)) for record in records)
    return [(record, values) for record, values in found if values is not None]


def best_table(records: Sequence[Record], scope: str) -> DataTable:
    """Return the front of points of equal work (`by_work`) as a table; `goals` says in what."""
    keys, names = [key for key in varied(records) if key not in SIZES], goals(records)
    chosen = best(records, scope, names)
    rows = tuple(
        (
            record.arch,
            *(_value(record, key) for key in keys),
            *(_SHOWN[name](value) for name, value in zip(OBJECTIVES, values)),
            percent(record.metrics.output_error if record.metrics else None),
        )
        for record, values in chosen[:MOST_ROWS]
    )
    columns = ("design", *keys, *OBJECTIVES, ERROR)
    note = f"points of the scope {scope} that no other beats in {', '.join(names)}"
    right = "r" * (len(OBJECTIVES) + 1)
    return DataTable("Best points", columns, rows, note, "l" * (len(columns) - len(right)) + right)


def _value(record: Record, key: str) -> str:
    value = record.values.get(key, "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def failures_table(records: Sequence[Record]) -> DataTable:
    """Return why points have no result: each reason once."""
    reasons: dict[str, list[Record]] = {}
    for record in records:
        if record.error is not None:
            reasons.setdefault(record.error.splitlines()[0], []).append(record)
    rows = tuple((str(len(failed)), _said(failed[0]), reason) for reason, failed in reasons.items())
    return DataTable("Points without a result", ("points", "such as", "why"), rows, align="rll")


def _said(record: Record) -> str:
    values = ", ".join(f"{key}={_value(record, key)}" for key in record.values)
    return f"{record.arch}, {record.model}" + (f": {values}" if values else "")


def sweep_page(records: Sequence[Record], scope: str = "attention", command: str = "") -> str:
    """Return the page; points of different work are apart."""
    archs = list(dict.fromkeys(record.arch for record in records))
    models = list(dict.fromkeys(record.model for record in records))
    title = f"{len(records):,} points: {', '.join(archs)} on {', '.join(models)}"
    body = [f"<h1>{escape(title)}</h1>", f'<p class="muted">Scope: {escape(scope)}. {escape(command)}</p>']
    for work, own in by_work(records).items():
        body.append(f"<h2>{escape(work)}</h2>")
        pictures = [("time", "energy"), ("area", "time"), *([(ERROR, "energy")] if ERROR in goals(own) else [])]
        for names in pictures:
            if picture := pareto_chart(own, scope, names, archs):
                body.append(f"<figure>{picture}<figcaption>{escape(_caption(names))}</figcaption></figure>")
        body.append(table_html(best_table(own, scope)))
    failed = failures_table(records)
    if failed.rows:
        body.append(table_html(failed))
    return html_document(title, body)


def _caption(names: Sequence[str]) -> str:
    x, y = names
    return (
        f"A dot is a point; the line joins those that no other beats in {x} and {y}. Point at a dot to see its values."
    )


def pareto_chart(records: Sequence[Record], scope: str, names: Sequence[str], archs: Sequence[str]) -> str:
    """Return the points by two measures, logarithmic, with the front; empty where fewer than two are known."""
    known = [(record, values) for record, values in _known(records, scope, names) if min(values) > 0]  # logarithms
    if len(known) < 2:
        return ""
    bottom = HEIGHT - BOTTOM
    factors = [1e-12 if name == "energy" else 1.0 for name in names]
    points = [tuple(value * factor for value, factor in zip(values, factors)) for _, values in known]
    x = _tight([point[0] for point in points], LEFT, WIDTH - RIGHT)
    y = _tight([point[1] for point in points], bottom, TOP)
    drawing = Drawing(WIDTH, HEIGHT, f"{names[1]} against {names[0]} of all points")
    _axes(drawing, x, y, names, bottom)
    drawing.legend([(arch, colour(archs.index(arch))) for arch in archs], LEFT, 16, WIDTH - RIGHT)
    chosen = sorted(front([values for _, values in known]), key=lambda index: points[index])
    step = -(-len(known) // MOST_DOTS)
    for index in sorted({*range(0, len(known), step), *chosen}):
        record, values = known[index]
        told = ", ".join(f"{name} {_SHOWN[name](value)}" for name, value in zip(names, values))
        fill, radius = colour(archs.index(record.arch)), 4.5 if index in chosen else 2.5
        drawing.dot(x(points[index][0]), y(points[index][1]), fill, f"{_said(record)}: {told}", radius)
    stairs: list[tuple[float, float]] = []
    for index in chosen:
        here = (x(points[index][0]), y(points[index][1]))
        stairs += [(here[0], stairs[-1][1]), here] if stairs else [here]
    drawing.path(stairs, "var(--fore)", "front")
    return drawing.render()


def _tight(values: Sequence[float], start: float, end: float) -> Log:
    """A scale that begins and ends near the values: whole decades would leave a short range of them in a corner."""
    low, high = min(values), max(values)
    room = max((high / low) ** 0.05, 1.02)
    return Log(low / room, high * room, start, end)


def _axes(drawing: Drawing, x: Log, y: Log, names: Sequence[str], bottom: float) -> None:
    for tick in _ticks(x):
        drawing.line(x(tick), TOP, x(tick), bottom)
        drawing.text(x(tick), bottom + 16, _label(names[0], tick), "middle", "tick")
    for tick in _ticks(y):
        drawing.line(LEFT, y(tick), WIDTH - RIGHT, y(tick))
        drawing.text(LEFT - 8, y(tick) + 4, _label(names[1], tick), "end", "tick")
    drawing.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, names[0], "middle", "axis")
    drawing.vertical_text(12, (bottom + TOP) / 2, names[1])


def _ticks(scale: Log) -> list[float]:
    """Return 1, 2 and 5 times powers of ten inside a scale, of a narrow one finer steps; at most about ten."""
    decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(1 + i / 10 for i in range(90))):
        found = [step * 10.0**power for power in decades for step in steps]
        inside = [value for value in found if scale.low <= value <= scale.high]
        if len(inside) >= 3:
            return inside[:: -(-len(inside) // 10)]
    return inside


def _label(name: str, value: float) -> str:
    return short(_SHOWN[name](value / 1e-12 if name == "energy" else value))
