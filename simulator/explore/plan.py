"""From archs, models and axes to points: which there are, and the key under which the result of each is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, get_args

from simulator.config import validate
from simulator.designs.iso import equalised
from simulator.designs.registry import Resolved, resolve
from simulator.engine.host import parse_host
from simulator.engine.interface import Design, Fidelity
from simulator.errors import ConfigError, InvalidValueError, NamedError, UnknownNameError
from simulator.explore.axes import RUN_KEYS, WORKLOAD_KEYS, Axis, Value
from simulator.explore.records import Record
from simulator.explore.work import Task, code_version, pack
from simulator.files import read_bytes
from simulator.workload import ReadRequest, Workload
from simulator.workload.reader import read_workload
from simulator.workload.store import digest

__all__ = ["Plan", "Point"]


@dataclass(frozen=True, slots=True)
class Point:
    """One combination: a design, a model and a value for each axis that is of this design."""

    arch: str
    model: str
    values: dict[str, Value]


@dataclass
class Plan:
    """What a sweep is made of.

    Parameters
    ----------
    models, archs: names or files. axes: what varies. settings: what does not, by design. request: how models are read.
    memory, host, fidelity, seed: as in `simulator.run`. iso: a design whose resources all get.

    Raises
    ------
    InvalidValueError: nothing varies, or something is given twice. ConfigError: an axis is also fixed by a setting.
    """

    models: tuple[str, ...]
    archs: tuple[str, ...]
    axes: tuple[Axis, ...]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    request: ReadRequest = field(default_factory=ReadRequest)
    memory: str | None = None
    host: str = "none"
    fidelity: Fidelity = "event"
    seed: int = 0
    iso: str | None = None
    _workloads: dict[tuple[str, ReadRequest], tuple[bytes, str]] = field(default_factory=dict, init=False, repr=False)
    _designs: dict[str, tuple[Resolved, bytes]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for what, given in (("--arch", self.archs), ("MODEL", self.models)):
            if not given:
                raise InvalidValueError("nothing is given", where=what)
            if twice := [name for name in given if given.count(name) > 1]:
                raise InvalidValueError(f"{twice[0]!r} is given twice", where=what)
        if not self.axes and len(self.archs) == len(self.models) == 1:
            raise InvalidValueError("nothing varies", where="--vary", expected="--vary, several designs or models")
        parse_host(self.host)
        for arch in self.archs:
            self._check_axes(arch)

    def _check_axes(self, arch: str) -> None:
        names = [axis.key for axis in self.axes_of(arch)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InvalidValueError(f"{twice[0]} is varied twice for {arch}", where="--vary", hint="one list of values")
        for axis in self.axes_of(arch):
            if axis.key == "fidelity" and (unknown := set(axis.values) - set(get_args(Fidelity))):
                raise UnknownNameError(f"no fidelity named {min(map(str, unknown))!r}", where="--vary fidelity")
        for name in names:
            option = "--" + name.replace("_", "-")
            if name in self._fixed(arch):
                raise ConfigError(f"{name} is varied and fixed", where=f"--vary {name} and --set {name}")
            asked = name in WORKLOAD_KEYS and getattr(self.request, name) != getattr(ReadRequest(), name)
            if asked or (name == "fidelity" and self.fidelity != "event") or (name == "seed" and self.seed):
                raise ConfigError(f"{name} is varied and fixed", where=f"--vary {name} and {option}")
        if "memory" in names and (self.memory is not None or "dram.standard" in names):
            raise ConfigError("the memory is given twice", where="--vary memory", hint="one of memory, dram.standard")

    @cached_property
    def _equal(self) -> dict[str, dict[str, Any]]:
        """The settings of --iso by design."""
        base = self.iso
        if base is None:
            return {}
        own = self.settings.get(base, {})
        return {arch: equalised(arch, base, self.settings.get(arch), own, self.memory).changes for arch in self.archs}

    def _fixed(self, arch: str) -> dict[str, Any]:
        return {**self.settings.get(arch, {}), **self._equal.get(arch, {})}

    def axes_of(self, arch: str) -> tuple[Axis, ...]:
        """Return the axes of a design."""
        return tuple(axis for axis in self.axes if axis.arch in (None, arch))

    def points(self) -> Iterator[Point]:
        """Yield every combination: by design, by model, then by the values, the last axis first."""
        for arch, model in product(self.archs, self.models):
            axes = self.axes_of(arch)
            for values in product(*(axis.values for axis in axes)):
                yield Point(arch, model, {axis.key: value for axis, value in zip(axes, values)})

    def __len__(self) -> int:
        """The number of points."""
        total = 0
        for arch in self.archs:
            count = len(self.models)
            for axis in self.axes_of(arch):
                count *= len(axis.values)
            total += count
        return total

    def prepared(self) -> list[Task | Record]:
        """Return a task for each point, or a record with the error where its values cannot be.

        Raises
        ------
        NamedError: no point of a design can be: the error of its first one, such as an unknown key. What is wrong with
            a model.
        """
        found: list[Task | Record] = []
        possible: set[str] = set()
        first: dict[str, NamedError] = {}
        for point in self.points():
            try:
                found.append(self.task(point))
                possible.add(point.arch)
            except ConfigError as error:
                first.setdefault(point.arch, error)
                found.append(Record(_key([point.arch, point.model, point.values]), *_said(point), None, str(error)))
        for arch in self.archs:
            if arch not in possible and arch in first:
                raise first[arch]
        return found

    def task(self, point: Point) -> Task:
        """Return what is needed to simulate a point.

        Raises
        ------
        ConfigError: a value that the design cannot have. As `read_workload` and `resolve`.
        """
        run = {key: value for key, value in point.values.items() if key in RUN_KEYS}
        own = {key: value for key, value in point.values.items() if key not in (*RUN_KEYS, *WORKLOAD_KEYS)}
        settings = {**self._fixed(point.arch), **own}
        memory, fidelity, seed = (run.get(name, getattr(self, name)) for name in RUN_KEYS)
        asked = replace(self.request, **{k: v for k, v in point.values.items() if k in WORKLOAD_KEYS})  # type: ignore[arg-type]
        packed, workload = self._workload(point.model, asked)
        resolved, design = self._design(point.arch)
        changes = {"dram.standard": memory, "dram.channels": None, **settings} if memory is not None else settings
        used = resolve(resolved, changes)
        key = _key([_design_key(used), workload, fidelity, seed, self.host, code_version()])
        return Task(key, *_said(point), design, packed, settings, memory, self.host, fidelity, seed)

    def _workload(self, model: str, request: ReadRequest) -> tuple[bytes, str]:
        if (model, request) not in self._workloads:
            workload: Workload = read_workload(model, request)
            self._workloads[model, request] = pack(workload), digest(workload)
        return self._workloads[model, request]

    def _design(self, arch: str) -> tuple[Resolved, bytes]:
        if arch not in self._designs:
            resolved = resolve(arch)
            self._designs[arch] = resolved, pack(resolved)
        return self._designs[arch]


def _said(point: Point) -> tuple[str, str, dict[str, Any]]:
    return point.arch, point.model, dict(point.values)


def _design_key(used: Resolved) -> list[Any]:
    """Return all that decides what the design does: its class with its files, and every setting, also the defaults."""
    settings = validate(used.design.settings_model, used.document).model_dump(
        mode="json", exclude={"name", "description"}
    )
    memory = Path(str(settings["dram"]["standard"]))
    own = hashlib.sha256(read_bytes(memory)).hexdigest() if memory.suffix in (".yaml", ".yml") else ""
    return [f"{used.design.__module__}.{used.design.__qualname__}", _files_of(used.design), settings, own]


def _files_of(design: type[Design]) -> str:
    """Return a hash of the files of a design from another package; those of this one are in the version."""
    if design.__module__.partition(".")[0] == "simulator":
        return ""
    found = hashlib.sha256()
    for path in sorted(design.folder.rglob("*")):
        if path.suffix in (".py", ".yaml", ".yml", ".so"):
            found.update(path.read_bytes())
    return found.hexdigest()


def _key(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
