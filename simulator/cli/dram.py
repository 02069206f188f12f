"""`simulate dram`: a request trace on a memory by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli import options
from simulator.cli.progress import Bar
from simulator.errors import InvalidValueError

if TYPE_CHECKING:
    from simulator.memory import MemorySpec
    from simulator.memory.result import ReplayResult

__all__ = ["dram"]


def dram(
    trace: options.Trace = None,
    memory: options.TraceMemory = None,
    set_: options.SetMemory = [],  # noqa: B006 - typer copies it
    no_merge: options.NoMerge = False,
    energy: Annotated[
        str | None, typer.Option(help="per-access or idd: where energies come from [default: the first it has].")
    ] = None,
    json: Annotated[str | None, typer.Option(help="Write the result as JSON; - is stdout, instead of tables.")] = None,
    html: Annotated[str | None, typer.Option(help="Write a report with pictures as one HTML file.")] = None,
    show_energy: Annotated[
        bool, typer.Option("--show-energy", help="Print the energy constants of the memory with their sources.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the memories, and exit.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Replay TRACE on a memory: bandwidth, row hits, latency and energy, by stream.

    A line of a trace is `R 0x1f40 64` or `W 0x1f40 64`: direction, address, bytes; a cycle of the memory's clock may
    stand in front, a label for the stream behind. `simulate show MEMORY` prints all parameters of a memory.
    """
    if list_:
        _list()
        return
    for path, option in ((json, "--json"), (html, "--html")):
        options.writable(path, option)
    spec = options.memory_of_trace(trace, memory, set_)
    if show_energy and json != "-" and not quiet:
        _show_energy(spec, energy)
    if trace is None:
        if not show_energy:
            raise InvalidValueError("no trace is given", where="simulate dram", expected="a file, or - for stdin")
        return
    result = _replay(trace, spec, not no_merge, energy, quiet)
    _write(result, json, html)
    if json == "-":
        typer.echo(result.to_json(), nl=False)
    elif not quiet:
        from simulator.report.dram_tables import print_replay

        print_replay(result, options.console())


def _list() -> None:
    from simulator.memory import load_memory, standard_names

    names = standard_names()
    width = max(map(len, names))
    for name in names:
        spec = load_memory(name)
        typer.echo(f"{name:{width}}  {spec.peak_gb_per_s:7.1f} GB/s  {spec.description}")


def _show_energy(spec: MemorySpec, wanted: str | None) -> None:
    from simulator.memory.energy import default_model
    from simulator.memory.result import constants_of
    from simulator.report.dram_tables import constants_table
    from simulator.report.terminal import print_table

    model = wanted or default_model(spec)
    print_table(constants_table(spec.name, model, constants_of(spec, model)), options.console())


def _replay(trace: str, spec: MemorySpec, merge: bool, energy: str | None, quiet: bool) -> ReplayResult:
    from simulator.memory.replay import replay_trace
    from simulator.memory.result import choose_model, make_result

    model = choose_model(spec, energy)  # before a long run, not after it
    total = options.size_of(trace)
    with Bar(f"replaying on {spec.name}", quiet or total is None) as bar:
        raw = replay_trace(spec, trace, merge=merge, progress=lambda done: bar.step(done, total or 0))
    name = "standard input" if trace == "-" else Path(trace).name
    return make_result(raw, spec, name, model)


def _write(result: ReplayResult, json: str | None, html: str | None) -> None:
    # Files before stdout: a reader of it that stops early costs none of them.
    from simulator.report.dram_page import write_replay_html

    if json not in (None, "-"):
        result.save(json)
    if html is not None:
        write_replay_html(result, html)
