"""`simulate compare`: saved results side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.cli import options
from simulator.errors import InvalidValueError
from simulator.result import load_results

__all__ = ["compare"]


def compare(
    results: Annotated[list[str], typer.Argument(metavar="A.json B.json ...", help="Results that --json wrote.")],
) -> None:
    """Compare saved results with the first one; factors are given only for equal scopes of the same work."""
    from simulator.report.tables import assumption_line, comparison_table
    from simulator.report.terminal import print_table

    loaded = [result for path in results for result in load_results(path)]
    table = comparison_table(loaded)
    if table is None:
        raise InvalidValueError("one result cannot be compared", where=results[0], expected="two or more results")
    console = options.console()
    for line in dict.fromkeys(assumption_line([result]) for result in loaded):
        console.print(line, style="bold", markup=False, soft_wrap=True)
    print_table(table, console)
