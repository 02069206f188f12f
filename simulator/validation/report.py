"""A validation as tables, as JSON, and as the Markdown that docs/validation.md holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from simulator.codec import encode
from simulator.report.tables import DataTable
from simulator.report.terminal import print_table
from simulator.validation.check import Row, Validation
from simulator.validation.measured import Part

__all__ = ["FORMAT", "SCHEMA_VERSION", "markdown", "print_validation", "tables", "to_json"]

FORMAT = "sparsecore-validation"
SCHEMA_VERSION = "1.0"
COLUMNS = ("row", "quantity", "class", "published", "ours", "error", "tolerance", "verdict", "source")
WIDE = 140  # columns of a terminal that has room for the sources
VERDICTS = {"inside": "not counted: inside", "outside": "not counted: outside", "shown": "not counted"}


def _number(value: float, digits: int = 4) -> str:
    """Return `value` in full where it is a whole number, else with some digits."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.{digits}g}"


def _interval(low: float, high: float, unit: str) -> str:
    shown = _number(low) if low == high else f"{_number(low, 3)} to {_number(high, 3)}"
    return f"{shown} {unit}".strip()


def _cells(row: Row) -> tuple[str, ...]:
    what = f"{row.what} ({row.operations} operations)" if row.operations else row.what
    return (
        row.name,
        what,
        row.class_,
        f"{_number(row.published)} {row.unit}",
        _interval(row.low, row.high, row.unit),
        "" if row.error is None else f"{100 * row.error:+.1f} %".replace("+0.0", "0.0").replace("-0.0", "0.0"),
        row.tolerance,
        VERDICTS.get(row.verdict, row.verdict),
        row.source,
    )


def _part_cells(part: Part, unit: str) -> tuple[str, ...]:
    return ("", f"  {part.name}", "", "", _interval(part.low, part.high, part.unit or unit), "", "", "", "")


def tables(validation: Validation) -> tuple[DataTable, ...]:
    """Return one table for each topic that has rows; parts of a row stand below it."""
    made = []
    for topic, title in validation.titles.items():
        cells: list[tuple[str, ...]] = []
        for row in validation.rows:
            if row.topic == topic:
                cells += [_cells(row), *(_part_cells(part, row.unit) for part in row.parts)]
        if cells:
            made.append(DataTable(title, COLUMNS, tuple(cells), align="lllrrrlll", brief=8))
    return tuple(made)


def remarks(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Return what has to be read with the tables, by heading: known misses, assumptions, how a value was computed."""
    found = (
        ("Known misses", {row.name: row.known_miss for row in rows if row.verdict == "known miss"}),
        ("Assumed where the input is unpublished", {row.name: row.assumptions for row in rows}),
        ("Calibrated constants", {row.name: _served(row, rows) for row in rows if row.class_ == "calibration"}),
        ("How", {row.name: row.note for row in rows}),
    )
    return [(heading, _by_text(texts)) for heading, texts in found if any(texts.values())]


def _served(row: Row, rows: Sequence[Row]) -> str:
    served = [other.name for other in rows if row.name in other.constants]
    rows_served = ", ".join(served) or "none of the rows shown"
    return f"published / ours, both less what is not scaled; serves {rows_served}"


def _by_text(texts: dict[str, str]) -> list[str]:
    """Return "row, row: text" for each text."""
    named: dict[str, list[str]] = {}
    for name, text in texts.items():
        if text:
            named.setdefault(text, []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in named.items()]


def summary(validation: Validation) -> str:
    """Return how many rows there are of each verdict."""
    counted = [row.verdict for row in validation.rows if row.counted]
    passed, known = counted.count("pass"), counted.count("known miss")
    missed, shown = counted.count("MISS"), len(validation.rows) - len(counted)
    known_text = f"{known} known {'miss' if known == 1 else 'misses'}"
    return f"{len(counted)} counted: {passed} pass, {known_text}, {missed} other; {shown} shown and not counted"


def _moved_table(validation: Validation) -> DataTable:
    units = {row.name: row.unit for row in validation.rows}
    rows = tuple(
        (
            f"{item.constant} x {item.factor:g}",
            item.row,
            _interval(item.before, item.before, units[item.row]),
            _interval(item.after, item.after, units[item.row]),
            f"{100 * (item.after / item.before - 1):+.1f} %" if item.before else "",
        )
        for item in validation.moved
    )
    note = "no other row moves" if rows else "no row moves"
    columns = ("constant", "row", "before", "after", "change")
    return DataTable("Calibrated constants moved", columns, rows, note, "llrrr")


def print_validation(validation: Validation, console: Console, perturbed: bool) -> None:
    """Print the tables, what has to be read with them, and the sum."""
    for table in tables(validation):
        print_table(table, console, details=console.width >= WIDE)
    if perturbed:
        print_table(_moved_table(validation), console)
    for heading, lines in remarks(validation.rows):
        console.print(Text(heading, style="bold"))
        for line in lines:
            console.print(Text(f"- {line}"), soft_wrap=True)
        console.print()
    if console.width < WIDE:
        console.print(Text(f"sources: --json, or a terminal of {WIDE} columns"), soft_wrap=True)
    console.print(Text(summary(validation), style="bold"), soft_wrap=True)


def to_json(validation: Validation) -> str:
    """Return the rows, what moved, and whether all is well, as JSON; the fields are those of `Row` and `Moved`."""
    rows = [{key.rstrip("_"): value for key, value in encode(row).items()} for row in validation.rows]
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "passed": not validation.failed,
        "summary": summary(validation),
        "rows": rows,
        "moved": encode(validation.moved),
    }
    return json.dumps(document, indent=1) + "\n"


def markdown(validation: Validation) -> str:
    """Return the tables and remarks as Markdown."""
    lines: list[str] = []
    for table in tables(validation):
        lines += [f"### {table.title}", "", _markdown_row(table.columns), _markdown_row("---" for _ in table.columns)]
        lines += [_markdown_row(cells) for cells in table.rows] + [""]
    for heading, found in remarks(validation.rows):
        lines += [f"### {heading}", "", *(f"- {line}" for line in found), ""]
    return "\n".join([*lines, summary(validation) + ".", ""])


def _markdown_row(cells: Iterable[str]) -> str:
    shown = ("&nbsp;&nbsp;" + cell.strip() if cell.startswith("  ") else cell for cell in cells)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |"
