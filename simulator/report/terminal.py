"""The report on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simulator.report.comparison import comparison_tables
from simulator.report.tables import DataTable, assumption_line, conditions, distinct, tables_of
from simulator.result import Result

__all__ = ["print_results", "print_table"]

# On a terminal the first question is the sum, not each layer and constant; those are in --json, --csv and --html.
_DETAILS = ("Layers", "Inputs", "Rules between nodes")


def print_results(results: Sequence[Result], console: Console, details: bool = False) -> None:
    """Print the results of one workload, one design after the other, then their comparison.

    The first line says whether tokens, heads and bits are assumed, published or measured.
    """
    console.print(Text(assumption_line(results), style="bold"), soft_wrap=True)
    results = distinct(results)
    first = results[0]
    model = first.model
    console.print(
        Text(f"{first.workload}: {model.family}, {model.layers} layers, {model.heads} heads of {model.head_dim}"),
        soft_wrap=True,
    )
    console.print()
    for result in results:
        title = f"{result.design} ({conditions(result)}): {result.design_description}"
        console.print(Text(title, style="bold"), soft_wrap=True)
        for table in tables_of(result):
            if details or table.title not in _DETAILS:
                print_table(table, console, details)
        for note in result.notes:
            console.print(Text(f"note: {note}"), soft_wrap=True)
        console.print()
    for table in comparison_tables(results):
        print_table(table, console)


def print_table(table: DataTable, console: Console, details: bool = True) -> None:
    """Print one table; without `details` only the columns of its short form."""
    shown = len(table.columns) if details or not table.brief else table.brief
    made = Table(title=table.title, title_justify="left", caption=table.note or None, caption_justify="left", box=None)
    made.title_style, made.caption_style, made.pad_edge = "bold", "dim", False
    for column, align in zip(table.columns[:shown], table.alignment()[:shown], strict=True):
        made.add_column(column, justify="left" if align == "l" else "right", overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(cell) for cell in row[:shown]))
    console.print(made)
    console.print()
