"""`simulate show`: a saved result, or the parameters of a design or of a memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simulator.cli import options
from simulator.report.tables import DataTable
from simulator.result import load_results

if TYPE_CHECKING:
    from simulator.designs.registry import Resolved
    from simulator.engine.interface import Design

__all__ = ["show"]


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RESULT.json|ARCH|MEMORY", help="A saved result, or a design, a memory, or a file of one."
        ),
    ],
) -> None:
    """Print a saved result with all its tables, or the parameters of a design or of a memory with their sources."""
    from simulator.report.terminal import print_results, print_table

    if Path(what).suffix == ".json":
        if _is_replay(what):
            _print_replay(what)
        else:
            print_results(load_results(what), options.console(), details=True)
        return
    for table in (_memory(what),) if _is_memory(what) else _design(what):
        print_table(table, options.console())


def _is_replay(path: str) -> bool:
    from simulator.files import parse_json, read_bytes
    from simulator.memory.result import FORMAT

    document = parse_json(read_bytes(path), path)
    return isinstance(document, dict) and document.get("format") == FORMAT


def _print_replay(path: str) -> None:
    from simulator.memory.result import ReplayResult
    from simulator.report.dram_tables import print_replay

    print_replay(ReplayResult.load(path), options.console(), details=True)


def _is_memory(name: str) -> bool:
    """A file is of a memory if it has the section that every memory has and no design."""
    from simulator.config import load_yaml
    from simulator.memory import standard_names

    if Path(name).suffix in (".yaml", ".yml"):
        return "organisation" in load_yaml(name).data
    return name in standard_names()


def _memory(name: str) -> DataTable:
    from simulator.memory import load_memory
    from simulator.memory.parameters import parameters_of, remarks_of
    from simulator.memory.spec import memory_file
    from simulator.report.dram_tables import parameters_table

    spec = load_memory(name)
    first, remarks = remarks_of(memory_file(name))
    title = f"{spec.name}: {spec.description}, {spec.peak_gb_per_s:.4g} GB/s"
    return parameters_table(title, parameters_of(spec), remarks, first)


def _design(arch: str) -> tuple[DataTable, ...]:
    """The parameters, the constants they name as the design's node and supply have them, and the area part by part."""
    from simulator.designs.registry import make
    from simulator.engine.technology import area_items
    from simulator.report.tables import area_table

    design, resolved = make(arch)
    tables = [_parameters(resolved), _constants(design, resolved)]
    if items := area_items(design):
        tables.append(area_table(items))
    return tuple(table for table in tables if table.rows)


def _constants(design: Design, resolved: Resolved) -> DataTable:
    from simulator.tech import table_names

    names, rows = table_names(), []
    for item in resolved.parameters:
        if not (isinstance(item.value, str) and item.value.partition(".")[0] in names and "." in item.value):
            continue
        supply: Literal["logic", "sram"] = "sram" if item.name == "silicon.wire" else "logic"
        found = design.technology.constant(item.value, item.name, "", supply)
        spread = f"{found.low:.4g} to {found.high:.4g}" if found.low < found.high else ""
        rows.append((item.value, f"{found.value:.4g}", spread, found.unit, found.source))
    columns = ("constant", "value", "range", "unit", "source")
    return DataTable("Constants", columns, tuple(rows), align="lrlll")


def _parameters(resolved: Resolved) -> DataTable:
    rows = tuple((item.name, str(item.value), item.kind, item.source) for item in resolved.parameters)
    data = resolved.document.data
    return DataTable(
        f"{data['name']}: {data['description']}", ("parameter", "value", "kind", "source"), rows, align="lrll"
    )
