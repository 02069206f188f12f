"""`simulate show`: a saved result, or the parameters of a design."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulator.cli import options
from simulator.report.tables import DataTable
from simulator.result import load_results

__all__ = ["show"]


def show(
    what: Annotated[
        str, typer.Argument(metavar="RESULT.json|ARCH", help="A saved result, or a design or its YAML file.")
    ],
) -> None:
    """Print a saved result with all its tables, or the parameters of a design with their sources."""
    from simulator.report.terminal import print_results, print_table

    if Path(what).suffix == ".json":
        print_results(load_results(what), options.console(), details=True)
        return
    print_table(_parameters(what), options.console())


def _parameters(arch: str) -> DataTable:
    from simulator.designs.registry import make

    _, resolved = make(arch)
    rows = tuple((item.name, str(item.value), item.kind, item.source) for item in resolved.parameters)
    data = resolved.document.data
    return DataTable(
        f"{data['name']}: {data['description']}", ("parameter", "value", "kind", "source"), rows, align="lrll"
    )
