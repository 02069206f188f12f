"""The report as one HTML file: pictures first, tables beneath, nothing fetched from anywhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from simulator.errors import InvalidValueError
from simulator.files import write_atomic
from simulator.report import charts, unit_charts
from simulator.report.comparison import comparison_tables, energy_interval_chart
from simulator.report.tables import DataTable, assumption_line, conditions, distinct, tables_of
from simulator.report.text import bytes_text, energy, number, seconds
from simulator.result import Result

__all__ = ["Section", "html_document", "html_page", "section_html", "table_html", "write_html"]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page that the caller brings: text and tables are escaped; pictures are <svg> of this package."""

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[DataTable, ...] = ()
    pictures: tuple[str, ...] = ()


_PICTURES = (
    (
        "Tokens kept per layer",
        charts.tokens_chart,
        "A token that a layer prunes takes no part in any later layer. Means over the sequences, phases and steps.",
    ),
    ("Heads kept per layer", charts.heads_chart, "A head that is pruned takes no part in any later layer."),
    (
        "Energy by component",
        charts.energy_chart,
        "DRAM first, then SRAM, then logic; the tables beneath have every part with its source. "
        "Counted here: {scopes}.",
    ),
    (
        "Roofline of the attention",
        charts.roofline,
        "Lines: what DRAM bandwidth and multipliers allow. Dots: what the run reached, in executed operations "
        "(2 per multiply-add) per second, against operations per byte fetched.",
    ),
    (
        "Bytes by source, useful and fetched",
        charts.bytes_chart,
        "DRAM moves whole bursts: what is fetched beyond the useful bytes is the cost of scattered rows. "
        "Counted here: {scopes}.",
    ),
    (
        "Time and energy by unit",
        unit_charts.units_chart,
        "What each unit did, as a share of all cycles of the design, and the energy that it took; DRAM and leakage are "
        "no unit's.",
    ),
    (
        "The longest op",
        unit_charts.timeline_chart,
        "The darker, the larger the busy share of the unit; in cycles of the op.",
    ),
    ("The start of the longest op", unit_charts.timeline_excerpt, "Each bar is one item: point at it to see which."),
    ("Time per layer", charts.time_chart, "Attention only, over all sequences, phases and steps."),
)


_INTERVALS = (
    "Energy of the attention, each with the interval that the published ranges of the constants leave. A constant that "
    "two designs share moves both: the table of what would turn the order takes that into account."
)


def write_html(
    results: Sequence[Result],
    path: str | os.PathLike[str],
    extra_sections: Sequence[Section] = (),
    title: str = "",
) -> None:
    """Write the report of one or several designs on one workload to `path`; an interrupt keeps the old file.

    Raises
    ------
    InvalidValueError: no result. FileMissingError: the folder of `path` does not exist.
    """
    write_atomic(path, html_page(results, extra_sections, title))


def html_page(results: Sequence[Result], extra_sections: Sequence[Section] = (), title: str = "") -> str:
    """Return the page as text; `extra_sections` stand before the simulated ones."""
    if not results:
        raise InvalidValueError("a report needs at least one result")
    results = distinct(results)
    title = title or f"{results[0].workload} on {', '.join(result.design for result in results)}"
    body = [
        _head(results, title),
        *(section_html(section) for section in extra_sections),
        *_pictures(results),
        *_all_tables(results),
        _foot(results),
    ]
    return html_document(title, body)


def html_document(title: str, body: Sequence[str]) -> str:
    """Return a page of HTML parts with the style sheet of all reports; empty parts are left out."""
    style = (resources.files("simulator.report") / "style.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _head(results: Sequence[Result], title: str) -> str:
    first = results[0]
    model = first.model
    line = assumption_line(results)
    kind = "assumed" if line.startswith("ASSUMED") else "measured"
    sizes = (
        f"{model.family}, {model.layers} layers, {model.heads} heads of {model.head_dim}, hidden size {model.hidden}"
    )
    cards = "\n".join(_card(result) for result in results)
    return (
        f'<h1>{escape(title)}</h1>\n<p class="muted">{escape(sizes)}; simulated, attention scope on the cards</p>\n'
        f'<p class="banner {kind}">{escape(line)}</p>\n<div class="cards">\n{cards}\n</div>'
    )


def _card(result: Result) -> str:
    scope = result.scopes["attention"]
    facts = {
        "time": seconds(scope.time_s),
        "cycles": number(scope.cycles),
        "DRAM useful": bytes_text(scope.dram_useful_bytes),
        "DRAM fetched": bytes_text(scope.dram_fetched_bytes),
        "energy": energy(scope.energy_pj),
    }
    items = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    said = f"{result.design_description}; {conditions(result)}"
    return f'<div class="card"><b>{escape(result.design)}</b>{escape(said)}<dl>{items}</dl></div>'


def section_html(section: Section) -> str:
    """Return a part of the page."""
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    parts += [f"<figure>{picture}</figure>" for picture in section.pictures]
    parts += [table_html(table) for table in section.tables]
    return "\n".join(parts)


def _pictures(results: Sequence[Result]) -> list[str]:
    made = []
    scopes = " and ".join(charts.shared_scopes(results)) or "nothing"
    if len(results) > 1:
        scopes += ", which all designs ran"
    for title, draw, caption in _PICTURES:
        picture = draw(results)
        if picture:
            said = escape(caption.format(scopes=scopes))
            made.append(f"<h2>{escape(title)}</h2>\n<figure>{picture}<figcaption>{said}</figcaption></figure>")
    return made


def _all_tables(results: Sequence[Result]) -> list[str]:
    parts = []
    compared = comparison_tables(results)
    if compared:
        parts.append("<h2>Comparison</h2>")
        if picture := energy_interval_chart(results):
            parts.append(f"<figure>{picture}<figcaption>{escape(_INTERVALS)}</figcaption></figure>")
        parts += [table_html(table) for table in compared]
    for result in results:
        parts.append(f"<h2>{escape(result.design)} in numbers</h2>")
        parts += [table_html(table) for table in tables_of(result)]
        parts += [f'<p class="note">Note: {escape(note)}</p>' for note in result.notes]
    return parts


def table_html(table: DataTable, with_title: bool = True) -> str:
    """Return a table, escaped."""
    sides = [' class="r"' if letter == "r" else "" for letter in table.alignment()]
    head = "".join(f"<th{side}>{escape(name)}</th>" for name, side in zip(table.columns, sides, strict=True))
    rows = "\n".join(_row(row, sides) for row in table.rows)
    title = f"<h3>{escape(table.title)}</h3>\n" if with_title else ""
    note = f'\n<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'{title}<div class="scroll"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>{note}'


def _row(row: Sequence[str], sides: Sequence[str]) -> str:
    cells = []
    for cell, side in zip(row, sides, strict=True):
        kind = f' class="{cell}"' if cell in ("assumed", "measured") else side
        cells.append(f"<td{kind}>{escape(cell)}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _foot(results: Sequence[Result]) -> str:
    first = results[0]
    return (
        f"<footer>Schedule: {escape(first.schedule)}. Seed {first.seed}, fidelity {escape(first.fidelity)}, "
        f"result schema {escape(first.schema_version)}. Every input above is marked "
        "measured, published or assumed, with its source. "
        "This file needs no network.</footer>"
    )
