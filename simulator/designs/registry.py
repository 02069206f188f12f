"""Finding designs by name or YAML file, and making one with `--set` and `--memory` applied."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from simulator.config import Document, load_yaml, validate
from simulator.designs.a3 import A3
from simulator.designs.elsa import Elsa
from simulator.designs.mnnfast import MnnFast
from simulator.designs.roofline import Roofline
from simulator.designs.sanger import Sanger
from simulator.designs.sparse_tensor_core import SparseTensorCore
from simulator.designs.spatten import SpAtten
from simulator.designs.systolic import Systolic
from simulator.engine.interface import Design
from simulator.errors import (
    ConfigError,
    FileMissingError,
    MissingDependencyError,
    NamedError,
    UnknownNameError,
    nearest,
)
from simulator.settings import changed, merged
from simulator.workload.ir import Kind

__all__ = ["Parameter", "Resolved", "broken_designs", "design_names", "make", "made_names", "resolve"]

GROUP = "simulator.designs"
FILES_GROUP = "simulator.design_files"  # name -> function that returns the path of a design's YAML file


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number of a design: its dotted key, value, kind, and the comment that stands beside it in its YAML file."""

    name: str
    value: Any
    kind: Kind
    source: str


@dataclass(frozen=True)
class Resolved:
    """A design's class with its whole configuration: `base` files merged, changes applied, not yet checked."""

    design: type[Design]
    document: Document
    parameters: tuple[Parameter, ...]

    def explained(self, sources: Mapping[str, str]) -> Resolved:
        """Return the same with other sources of the values of some keys."""
        told = (replace(p, source=sources.get(p.name, p.source)) for p in self.parameters)
        return replace(self, parameters=tuple(told))


@lru_cache(maxsize=1)
def _classes() -> tuple[dict[str, type[Design]], dict[str, NamedError]]:
    """Return the design classes by entry-point name, and the errors of those that cannot be had.

    The shipped ones need no installation metadata; a broken package of others leaves the rest as it is.
    """
    shipped: tuple[type[Design], ...] = (A3, Elsa, MnnFast, Roofline, Sanger, SparseTensorCore, SpAtten, Systolic)
    found: dict[str, type[Design]] = {design.folder.name.replace("_", "-"): design for design in shipped}
    broken: dict[str, NamedError] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        if point.name not in found:
            try:
                found[point.name] = _load(point)
            except NamedError as error:
                broken[point.name] = error
    return found, broken


def _load(point: importlib.metadata.EntryPoint) -> type[Design]:
    """Return the class of another package."""
    where = f"entry point {GROUP}: {point.name} = {point.value}"
    try:
        design = point.load()
    except Exception as error:
        raise MissingDependencyError(
            f"the design {point.name!r} cannot be imported: {error}",
            where=where,
            hint="repair or uninstall that package",
        ) from error
    if not (isinstance(design, type) and issubclass(design, Design)):
        raise ConfigError(f"the design {point.name!r} is not a Design class", where=where)
    return design


@lru_cache(maxsize=1)
def _files() -> dict[str, tuple[type[Design], Path]]:
    files: dict[str, tuple[type[Design], Path]] = {}
    for design in _classes()[0].values():
        for path in sorted(design.folder.glob("*.yaml")):
            files.setdefault(path.stem, (design, path))
    return files


def design_names() -> list[str]:
    """Return the names that `make` knows."""
    return sorted(_files())


def broken_designs() -> dict[str, NamedError]:
    """Return the entry points that cannot be imported, each with the error that `make` raises for it."""
    return dict(_classes()[1])


def made_names() -> dict[str, str]:
    """Return the names of designs whose file another package makes when it is asked for, with who makes it."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=FILES_GROUP)}


def _made(name: str) -> Path:
    """Return the file of a design of `made_names`; whatever the package raises comes through."""
    point = next(point for point in importlib.metadata.entry_points(group=FILES_GROUP) if point.name == name)
    try:
        make_file = point.load()
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"what makes the design {name!r} cannot be imported: {error}",
            where=f"entry point {FILES_GROUP}: {point.name} = {point.value}",
            hint="repair or uninstall that package",
        ) from error
    return Path(make_file())


def resolve(arch: str | Resolved, changes: Mapping[str, Any] | None = None) -> Resolved:
    """Return a design by name, or by a YAML file whose `base:` names a design, with dotted keys changed.

    `arch` may be what this returned before: then no file is read.

    Raises
    ------
    UnknownNameError: no such design (the nearest names are given).
    FileMissingError: a YAML path that does not exist.
    ConfigError: a file without `base`, or whose bases form a circle.
    """
    base = _read(arch) if isinstance(arch, str) else arch
    if not changes:
        return base
    result, known = changed(base.document, changes), {parameter.name: parameter for parameter in base.parameters}
    parameters = tuple(
        known[name]
        if name not in changes and name in known and known[name].value == value
        else Parameter(name, value, "assumed", "--set")
        for name, value in _flat(result.data)
        if name not in ("name", "description")
    )
    return Resolved(base.design, result, parameters)


def _read(arch: str) -> Resolved:
    design, document, comments = _resolve(arch, ())
    flat = [(name, value) for name, value in _flat(document.data) if name not in ("name", "description")]
    parameters = tuple(Parameter(name, value, *_kind(name, comments)) for name, value in flat)
    return Resolved(design, document, parameters)


def _resolve(arch: str, above: tuple[str, ...]) -> tuple[type[Design], Document, dict[str, str]]:
    files = _files()
    design: type[Design] | None = None
    if arch in files:
        design, path = files[arch]
    elif arch in made_names():
        path = _made(arch)
    elif Path(arch).suffix in (".yaml", ".yml"):
        path = Path(arch)
        if not path.exists():
            raise FileMissingError("the design file does not exist", where=arch, hint=nearest(arch, files))
    elif arch in _classes()[1]:
        raise _classes()[1][arch]
    else:
        hint = nearest(arch, [*files, *made_names()])
        if broken := ", ".join(_classes()[1]):
            hint += f" (not importable: {broken})"
        raise UnknownNameError(f"no design named {arch!r}", where="--arch", hint=hint)
    document = load_yaml(path)
    comments = _comments(path, document)
    base = document.data.get("base")
    if base is None:
        if design is None:
            raise ConfigError("the design file has no base", where=arch, expected=f"base: {' | '.join(files)}")
        return design, document, comments
    if not isinstance(base, str) or base in above:
        raise ConfigError(f"the base {base!r} is not a design or leads back here", where=document.place(["base"]))
    try:
        below, base_document, base_comments = _resolve(base, (*above, arch))
    except UnknownNameError as error:  # --arch was right: the file is wrong
        raise UnknownNameError(error.what, where=document.place(["base"]), hint=error.hint) from error
    own = {key: value for key, value in document.data.items() if key != "base"}
    own.setdefault("name", path.stem)
    lines = {key: line for key, line in document.lines.items() if key}
    if design is not None and issubclass(design, below):  # a package's own class, with the numbers of another design
        below = design
    return below, Document(merged(base_document.data, own), document.where, lines), base_comments | comments


def make(
    arch: str | Resolved, changes: Mapping[str, Any] | None = None, memory: str | None = None, seed: int = 0
) -> tuple[Design, Resolved]:
    """Return a design ready to run, and what it was made from.

    Parameters
    ----------
    memory: a shipped memory or a YAML file instead of the design's own; its number of channels then counts, unless
        `changes` has "dram.channels".

    Raises
    ------
    As `resolve`; ConfigError for an unknown or mistyped key, with its line and the nearest name.
    """
    changes = dict(changes or {})
    if memory is not None:
        changes = {"dram.standard": memory, "dram.channels": None, **changes}
    resolved = resolve(arch, changes)
    settings = validate(resolved.design.settings_model, resolved.document)
    return resolved.design(settings, seed), resolved


def _flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for key, value in data.items():
        name = f"{prefix}{key}"
        items.extend(_flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)])
    return items


def _comments(path: Path, document: Document) -> dict[str, str]:
    """Return the comment on the line of each key; a key without one has that of its section."""
    text = path.read_text(encoding="utf-8").splitlines()
    found: dict[str, str] = {}
    for key, line in document.lines.items():
        match = re.search(r"\s#\s*(.+)$", text[line - 1]) if key else None
        if match:
            found[".".join(map(str, key))] = match.group(1)
    return found


def _kind(name: str, comments: Mapping[str, str]) -> tuple[Kind, str]:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        comment = comments.get(".".join(parts[:end]))
        if comment is not None:
            if comment.startswith("measured"):
                return "measured", comment
            return ("assumed" if comment.startswith("ours") else "published"), comment
    return "published", "the design's file"
