"""`_core.pyi` names the functions and arguments that the compiled module has."""

from __future__ import annotations

import ast
from pathlib import Path

import sparsecore
from sparsecore.native import core


def arguments(doc: str) -> list[str]:
    """Return the argument names in a pybind11 docstring, which starts `name(first: type, second: type) -> type`."""
    inside = doc.splitlines()[0].partition("(")[2].rpartition(") -> ")[0]
    names, depth = [], 0
    for part in inside.split(","):
        if depth == 0 and part.strip():
            names.append(part.partition(":")[0].strip())
        depth += sum(part.count(c) for c in "([") - sum(part.count(c) for c in ")]")
    return names


def test_the_stub_names_every_function_with_its_arguments() -> None:
    stub = ast.parse((Path(sparsecore.__file__).parent / "_core.pyi").read_text())
    declared = {node.name: [a.arg for a in node.args.args] for node in stub.body if isinstance(node, ast.FunctionDef)}
    if not core.cuda_info()["compiled"]:  # then only layouts are there, and no launches
        declared = {
            name: names for name, names in declared.items() if not name.startswith("cuda_") or hasattr(core, name)
        }
    members = {name: getattr(core, name) for name in dir(core) if not name.startswith("_")}
    functions = {name: member for name, member in members.items() if callable(member)}
    constants = {
        node.target.id for node in stub.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert constants == members.keys() - functions.keys()
    assert declared == {name: arguments(function.__doc__ or "") for name, function in functions.items()}
