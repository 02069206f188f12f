"""`simulate compare`: saved results side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.cli import options
from simulator.result import load_results

__all__ = ["compare"]


def compare(
    results: Annotated[list[str], typer.Argument(metavar="A.json B.json ...", help="Results that --json wrote.")],
    scope: Annotated[
        str,
        typer.Option(
            help="attention, linear, other or total: what must be modelled in all of them.",
            autocompletion=options.starting_with(lambda: ["attention", "linear", "other", "total"]),
        ),
    ] = "attention",
    json: Annotated[str | None, typer.Option(help="Write the comparison as JSON; - is stdout.")] = None,
    html: Annotated[str | None, typer.Option(help="Write a report of all results as one HTML file.")] = None,
) -> None:
    """Compare saved results with the first one: time, energy, bytes, area, output error, and how sure their order is.

    Results of different work, of different scopes or of different schema versions are refused.
    """
    from simulator.comparison import require_comparable, side_by_side
    from simulator.files import write_atomic
    from simulator.report import assumption_line, comparison_tables, write_html
    from simulator.report.tables import distinct
    from simulator.report.terminal import print_table

    for option, path in {"--json": json, "--html": html}.items():
        options.writable(path, option)
    loaded = distinct([result for path in results for result in load_results(path)])
    require_comparable(loaded, scope)
    compared = side_by_side(loaded, scope).to_json()
    if html is not None:
        write_html(loaded, html)
    if json not in (None, "-"):
        write_atomic(json, compared)
    if json == "-":
        typer.echo(compared, nl=False)
        return
    console = options.console()
    for line in dict.fromkeys(assumption_line([result]) for result in loaded):
        console.print(line, style="bold", markup=False, soft_wrap=True)
    for table in comparison_tables(loaded, scope):
        print_table(table, console)
