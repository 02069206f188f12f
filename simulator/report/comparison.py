"""How a report holds designs against each other: tables, and energies with their intervals as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simulator.comparison.orders import Order, Turn
from simulator.comparison.sides import Side, SideBySide, side_by_side
from simulator.engine.resources import BANDWIDTH, MULTIPLIERS, SRAM
from simulator.report.charts import WIDTH, label_room
from simulator.report.data_table import DataTable
from simulator.report.svg import Drawing, Linear, colour
from simulator.report.tables import SCOPES, distinct
from simulator.report.text import NOT_MEASURED, area, bytes_text, count, energy, percent, rate, ratio, seconds
from simulator.result import Result

__all__ = ["comparison_table", "comparison_tables", "designs_table", "energy_interval_chart", "order_table"]


def comparison_tables(results: Sequence[Result], scope: str = "") -> tuple[DataTable, ...]:
    """Return everything that is said of several designs, of one scope or of all; nothing for fewer than two."""
    if len(results) < 2:
        return ()
    named = distinct(results)
    table = comparison_table(results, scope)
    assert table is not None
    shown = [scope] if scope else shared(named)
    made = (table, designs_table(named), *(order_table(side_by_side(named, name)) for name in shown))
    return tuple(table for table in made if table.rows)


def shared(results: Sequence[Result]) -> list[str]:
    """Return the scopes that at least two of the designs give an energy for."""
    have = [name for result in results for name, scope in result.scopes.items() if scope.energy_pj]
    return [name for name in SCOPES if have.count(name) > 1]


def comparison_table(results: Sequence[Result], scope: str = "") -> DataTable | None:
    """Return the designs side by side in one scope, or in all; None for fewer than two.

    A speedup stands only where both designs modelled the same scope of the same work: equal operations before pruning.
    """
    if len(results) < 2:
        return None
    results = distinct(results)
    rows = tuple(row for name in ([scope] if scope else SCOPES) for row in _rows(side_by_side(results, name)))
    first = results[0].design
    columns = ("scope", "design", "time", f"{first} is faster", "DRAM fetched", "energy", f"{first} needs less energy")
    note = "factors only between equal scopes of the same work; operations that a design prunes away count as done"
    return DataTable("Comparison", (*columns, "over the constants"), rows, note, "ll" + "r" * 6)


def _rows(compared: SideBySide) -> Iterable[tuple[str, ...]]:
    for side in compared.sides:
        if side.modelled_by not in ("design", "host"):
            continue
        yield (
            compared.scope,
            side.design + (" (host)" if side.modelled_by == "host" else ""),
            seconds(side.time_s),
            ratio(side.speedup),
            bytes_text(side.dram_fetched_bytes),
            energy(side.energy_pj),
            ratio(side.energy_factor),
            _interval(side),
        )


def _interval(side: Side) -> str:
    low, high = side.energy_low_pj, side.energy_high_pj
    return f"{energy(low)} to {energy(high)}" if low is not None and high is not None and low < high else ""


def designs_table(results: Sequence[Result]) -> DataTable:
    """Return area, output error and resources of the designs, which are those of the whole design."""
    rows = []
    for side in side_by_side(results).sides:
        have = side.resources
        sram = have.get(SRAM)
        rows.append(
            (
                side.design,
                NOT_MEASURED if side.area_mm2 is None else area(side.area_mm2),
                NOT_MEASURED if side.output_error is None else percent(side.output_error),
                side.error_kind,
                count(have.get(MULTIPLIERS)),
                rate(have.get(BANDWIDTH), "B/s"),
                NOT_MEASURED if sram is None else bytes_text(sram),
            )
        )
    columns = ("design", "area", "output error", "how known", "multipliers", "DRAM bandwidth", "SRAM")
    note = "error: of the attention output, relative to dense attention; --iso DESIGN makes the last three equal"
    return DataTable("Designs", columns, tuple(rows), note, "lrrlrrr")


def order_table(compared: SideBySide) -> DataTable:
    """Return the orders that something would turn, and those of neighbours, with how sure they are."""
    rows = []
    for order in compared.orders:
        if order.turns or _next_to_each_other(order, compared.orders):
            row = (order.quantity, order.better, order.worse, ratio(order.factor), ratio(order.least))
            rows += [(*row, *_turn(turn)) for turn in order.turns or (None,)]
    columns = ("of", "less", "more", "factor", "at least", "turned by", "where")
    note = "at least: with every published constant where it favours the second most" if rows else ""
    return DataTable(f"How sure the order is: {compared.scope}", columns, tuple(rows), note, "lllrrll")


def _next_to_each_other(order: Order, orders: Sequence[Order]) -> bool:
    """Whether no third design lies between the two."""
    of = [other for other in orders if other.quantity == order.quantity]
    above = {other.worse for other in of if other.better == order.better}
    return not above & {other.better for other in of if other.worse == order.worse}


def _turn(turn: Turn | None) -> tuple[str, str]:
    if turn is None:
        return "nothing published", ""
    what = " with ".join(turn.constants)
    if turn.at is None or turn.low is None or turn.high is None:
        return what, "only together" if len(turn.constants) > 1 else ""
    return what, f"at {turn.at:.2f} of its value; published: {turn.low:.2f} to {turn.high:.2f}"


def energy_interval_chart(results: Sequence[Result]) -> str:
    """Energy of the attention: a bar for each design, a line from the low to the high end of the constants."""
    sides = [side for side in side_by_side(results).sides if side.energy_pj is not None]
    if len(sides) < 2:
        return ""
    left = label_room([side.design for side in sides])
    top = max(max(side.energy_pj or 0.0, side.energy_high_pj or 0.0) for side in sides)
    scale = Linear(top or 1.0, left, WIDTH - 190)
    drawing = Drawing(WIDTH, 24.0 + 38 * len(sides), "energy of the attention with its interval")
    for row, side in enumerate(sides):
        y, pj = 12.0 + 38 * row, side.energy_pj or 0.0
        drawing.text(left - 10, y + 18, side.design, "end")
        drawing.rectangle(left, y, scale(pj) - left, 26, colour(row), f"{side.design}: {energy(pj)}", 0.75)
        low, high = scale(side.energy_low_pj or pj), scale(side.energy_high_pj or pj)
        drawing.line(low, y + 13, high, y + 13, "whisker")
        for end in (low, high):
            drawing.line(end, y + 7, end, y + 19, "whisker")
        drawing.text(max(high, scale(pj)) + 8, y + 18, _interval(side) or energy(pj))
    return drawing.render()
