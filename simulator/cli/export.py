"""`simulate export`: the same requests and the same memory for other simulators."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.cli import options
from simulator.cli.progress import Bar
from simulator.errors import InvalidValueError

__all__ = ["export"]


def _tools() -> list[str]:
    from simulator.exchange import TOOLS

    return list(TOOLS)


def export(
    to: Annotated[str, typer.Option(help="dramsim3 or ramulator2.", autocompletion=options.starting_with(_tools))],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write into.")],
    trace: options.Trace = None,
    memory: options.TraceMemory = None,
    set_: options.SetMemory = [],  # noqa: B006 - typer copies it
    no_merge: options.NoMerge = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the bursts of TRACE and the memory as DRAMsim3 or Ramulator 2 read them, for others to check.

    The folder gets the trace, a configuration, and a README.md that says how to run them and what cannot be expressed.
    """
    from simulator.exchange import export_trace

    if trace is None:
        raise InvalidValueError("no trace is given", where="simulate export", expected="a file, or - for stdin")
    spec = options.memory_of_trace(trace, memory, set_)
    total = options.size_of(trace)
    with Bar(f"exporting to {to}", quiet or total is None) as bar:
        done = export_trace(spec, trace, to, out, not no_merge, lambda read: bar.step(read, total or 0))
    if not quiet:
        typer.echo(f"{done.bursts} bursts in {', '.join(map(str, done.files))}")
        for sentence in done.differences:
            typer.echo(f"note: {sentence}")
