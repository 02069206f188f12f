"""The typer application: its commands, `simulate MODEL` for `simulate run MODEL`, and what becomes of errors.

Exit codes: 0; 2 for bad input, which a named error explains on stderr; 1 for an error of ours.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated

import typer
from typer.core import TyperGroup

from simulator.cli import archs, capture, compare, dram, export, new, run, show, sweep, validate
from simulator.cli.completion import complete_short_form
from simulator.errors import NamedError
from simulator.version import version

__all__ = ["app", "main"]

app = typer.Typer(
    name="simulate",
    help="Simulate transformers on sparse-attention accelerators. `simulate MODEL` is short for `simulate run MODEL`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (at any place).")] = False,
) -> None:
    """`main` itself looks for --debug; it stands here for --help."""


_COMMANDS = (
    run.run,
    capture.capture,
    archs.archs,
    show.show,
    compare.compare,
    sweep.sweep,
    new.new,
    dram.dram,
    export.export,
    validate.validate,
)
for _command in _COMMANDS:
    app.command()(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; `arguments` are those of the process by default.

    typer explains wrong options by itself and exits with 2.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    if "_SIMULATE_COMPLETE" in os.environ:
        complete_short_form(command.commands, _own_options(command))
    if not debug:
        sys.excepthook = _internal_error
    try:
        command.main(_with_default(command, [a for a in given if a != "--debug"]), prog_name="simulate")
    except (NamedError, OSError) as error:  # a full disk or a forbidden folder is not our error either
        if debug:
            traceback.print_exc()
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def _with_default(command: TyperGroup, arguments: list[str]) -> list[str]:
    """Put "run" in front of anything that does not start with a command or an option of the program itself."""
    if not arguments or arguments[0] in command.commands or arguments[0].partition("=")[0] in _own_options(command):
        return arguments
    return ["run", *arguments]


def _own_options(command: TyperGroup) -> set[str]:
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return own | {"-h", "--help"}


def _internal_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python exits with 1 after this."""
    last = traceback.extract_tb(trace)[-1] if trace is not None else None
    place = f" ({last.filename}, line {last.lineno})" if last is not None else ""
    typer.echo(f"internal error: {kind.__name__}: {error}{place}", err=True)
    typer.echo("  try: --debug shows the traceback; please report it", err=True)
