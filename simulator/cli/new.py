"""`simulate new`: a design file, or a package with a design, to start from."""

from __future__ import annotations

import re
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
    name: Annotated[
        str,
        typer.Argument(metavar="NAME|NAME.yaml", help="A package to make, or a file of numbers alone."),
    ],
    base: Annotated[
        str,
        typer.Option(
            "--from", "--base", metavar="ARCH", help="The design to start from.", autocompletion=starting_with(_designs)
        ),
    ] = "spatten",
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Start a design from ARCH.

    NAME.yaml becomes a file with all numbers of ARCH to change: enough for --arch. NAME becomes the folder of a package
    with a class of its own, for what numbers cannot say; installed, its design is found by name.
    """
    target = Path(name)
    if target.suffix in (".yaml", ".yml"):
        _write({target: design_file(target.stem, base)}, force)
        typer.echo(f"{name}: edit it, then: simulate --arch {name} bert-base")
    elif re.fullmatch(r"[a-z][a-z0-9_]*", target.name):
        _write(package_files(target, base), force)
        typer.echo(f"{name}: edit {target / target.name}, then: pip install -e {name}")
        typer.echo(f"  and: simulate --arch {target.name} bert-base (docs/new_design.md has a design from nothing)")
    else:
        expected = "a name that ends in .yaml, or one of a package: small letters, digits and _"
        raise InvalidValueError(f"{target.name!r} names no design", where="simulate new", expected=expected)


def _write(files: dict[Path, str], force: bool) -> None:
    """Write all files or none."""
    for path in files:
        if path.exists() and not force:
            raise InvalidValueError("the file exists", where=str(path), hint="another name, or --force")
    for path, text in files.items():
        if len(files) > 1:  # a package has folders of its own; a file alone goes where the user says there is one
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)


def package_files(folder: Path, base: str) -> dict[Path, str]:
    """Return the files of a package whose design differs from `base` in nothing but its name.

    Raises
    ------
    UnknownNameError: no such base.
    """
    from simulator.designs.registry import resolve

    name, parent = folder.name, resolve(base).design
    own = "".join(part.capitalize() for part in name.split("_"))
    own += "Design" if own == parent.__name__ else ""
    project = f"""\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "{name.replace("_", "-")}"
version = "0.1.0"
dependencies = ["sparsecore-kernels"]

[project.entry-points."simulator.designs"]
{name} = "{name}:{own}"

[tool.setuptools]
packages = ["{name}"]
package-data = {{ "{name}" = ["*.yaml"] }}
"""
    code = f"""\
\"\"\"{name}: a design that starts from {base}.\"\"\"

from pathlib import Path

from {parent.__module__} import {parent.__name__}

__all__ = ["{own}"]


class {own}({parent.__name__}):
    \"\"\"{base}; what its methods are is in simulator.engine.interface.Design. Override what works differently.\"\"\"

    folder = Path(__file__).parent  # of the YAML files: each is a design of this class, by its name
"""
    return {
        folder / "pyproject.toml": project,
        folder / name / "__init__.py": code,
        folder / name / f"{name}.yaml": design_file(name, base),
    }


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
