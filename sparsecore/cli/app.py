"""The application, its exit codes and what is printed when something is wrong.

Exit codes: 0 success, 2 bad input (a named error, or wrong arguments), 1 an internal error.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sparsecore.cli.bench import bench
from sparsecore.cli.convert import convert
from sparsecore.cli.doctor import doctor
from sparsecore.cli.info import info
from sparsecore.cli.inspect import inspect
from sparsecore.cli.pack import pack
from sparsecore.cli.prune import prune
from sparsecore.errors import NamedError

__all__ = ["app", "main"]

app = typer.Typer(
    name="sparsecore",
    help="Prune, pack and look into model checkpoints.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (prune, pack, convert, inspect, info, doctor, bench):
    app.command()(command)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Prune, pack and look into model checkpoints."""


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    debug = "--debug" in sys.argv  # taken anywhere on the line
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"], prog_name="sparsecore")
    except Exception as error:
        if debug:
            raise
        bad_input = isinstance(error, NamedError | OSError)
        kind = "error" if bad_input else f"internal error: {type(error).__name__}"
        hint = "" if bad_input else "\n  try: sparsecore --debug ... shows where; please report it"
        print(f"{kind}: {error}{hint}", file=sys.stderr)  # noqa: T201 - this is the command's output
        raise SystemExit(2 if bad_input else 1) from None
