"""`simulate new`: a design file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulator.cli.options import starting_with
from simulator.errors import InvalidValueError
from simulator.files import write_atomic

__all__ = ["new"]


def _designs() -> list[str]:
    from simulator.designs.registry import design_names

    return design_names()


def new(
    path: Annotated[str, typer.Argument(metavar="my_design.yaml", help="The file to write.")],
    base: Annotated[
        str, typer.Option(help="The design to start from.", autocompletion=starting_with(_designs))
    ] = "spatten",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a design file: it names its base, and lists all parameters of it to change."""
    target = Path(path)
    if target.suffix not in (".yaml", ".yml"):
        raise InvalidValueError("a design file is YAML", where=path, expected="a name that ends in .yaml")
    if target.exists() and not force:
        raise InvalidValueError("the file exists", where=path, hint="another name, or --force")
    write_atomic(target, design_file(target.stem, base))
    typer.echo(f"{path}: edit it, then: simulate --arch {path} bert-base")


def design_file(name: str, base: str) -> str:
    """Return the text of a valid design file that changes nothing of `base` but its name.

    Raises
    ------
    UnknownNameError: no such base.
    """
    from simulator.designs.registry import resolve

    resolved = resolve(base)
    lines = [
        f"# A design that differs from {base} in the numbers below; what is left out is as there.",
        f"# `simulate show {base}` gives the source of each number; `simulate show {name}.yaml` checks this file.",
        f"base: {base}",
        f"name: {name}",
        f'description: "{base}, changed"',
        "",
        f"# All numbers of {base}: take the # away in front of a line, and of the line that names its section.",
    ]
    section = ""
    for parameter in resolved.parameters:
        group, _, key = parameter.name.rpartition(".")
        if group != section:
            section = group
            lines += ["", f"# {group}:"] if group else [""]
        indent = "  " if group else ""
        lines.append(f"# {indent}{key}: {_scalar(parameter.value)}")
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    import yaml

    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
