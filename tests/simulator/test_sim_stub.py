"""`_sim.pyi` names the classes, methods, properties and arguments that the compiled module has."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import simulator
from simulator import _sim


def declared(node: ast.ClassDef) -> dict[str, list[str] | None]:
    """Arguments by method, None for a property."""
    found: dict[str, list[str] | None] = {}
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            found[item.name] = None if item.decorator_list else [argument.arg for argument in item.args.args]
    return found


def arguments(doc: str) -> list[str]:
    """Argument names in a pybind11 docstring: `name(self: type, second: type = 1) -> type`."""
    inside = doc.splitlines()[0].partition("(")[2].rpartition(") -> ")[0]
    while (shorter := re.sub(r"\[[^\[\]]*\]|\([^()]*\)", "", inside)) != inside:
        inside = shorter
    return [part.partition(":")[0].strip() for part in inside.split(",")]


def compiled(kind: type) -> dict[str, list[str] | None]:
    found: dict[str, list[str] | None] = {}
    for name, member in vars(kind).items():
        if name.startswith("_") and name != "__init__":
            continue
        found[name] = None if isinstance(member, property) else arguments(member.__doc__ or "")
    return found


def test_the_stub_names_everything_with_its_arguments() -> None:
    stub = ast.parse((Path(simulator.__file__).parent / "_sim.pyi").read_text())
    ours = {node.name: declared(node) for node in stub.body if isinstance(node, ast.ClassDef)}
    assert ours == {name: compiled(kind) for name, kind in inspect.getmembers(_sim, inspect.isclass)}
