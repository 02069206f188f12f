"""Calibrated speeds of both forms of a layer: what they are, where they are kept, which of them hold here.

    time(T) = call + max(bytes / stream, T positions cost(T))          on a CPU
    time(T) = max(call, bytes / stream, T positions cost(T))           on a GPU, which works while the host queues calls

    T          tokens of a call                   positions  out_features x in_features
    bytes      what the form holds for the weight: every call reads it once
    call       seconds of a call on a 16 x 16 weight with one token
    stream     bytes/s at which the form reads a weight that is in no cache, one token
    cost(T)    seconds a position and token with a weight in the cache; between calibrated points linear in log T and
               log cost, constant beyond them. Between calibrated densities linear, below them constant, above them in
               proportion.

This is the roofline of Williams, Waterman and Patterson (CACM 2009) with the peaks replaced by what each form reaches
and a fixed cost a call. A pattern that was not calibrated counts as slow as the slowest of its family.
"""

from __future__ import annotations

import json
import math
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

import sparsecore
from simulator.files import read_json, write_atomic
from sparsecore.backends.cuda.routes import GATHERED
from sparsecore.errors import CorruptFileError
from sparsecore.gpu import Gpu
from sparsecore.machine import Machine, describe
from sparsecore.patterns import Pattern, parse

__all__ = [
    "CUDA",
    "DENSE",
    "Calibration",
    "Entry",
    "FormSpeed",
    "applicable",
    "form_of",
    "path_of",
    "read",
    "shipped",
    "stale",
    "write",
]

DENSE, CUDA = "dense", "cuda"
_SHARED = re.compile(r"\d+:(?=\d+:)")  # before the name of a pattern: rows of blocks that share columns
_FORMAT = "1.0"
_REMEDY = "delete it, or run `sparsecore doctor --calibrate`"
_SHIPPED = Path(__file__).parent / "data" / "calibration.json"
_GPUS = Path(__file__).parent / "data" / "gpu"  # one file for each kind of GPU, as `doctor --calibrate` writes it
# How much of a shipped ratio is believed: on the kind of machine that it was measured on, and on another one.
_SAME_KIND, _OTHER_KIND = 0.95, 0.8


@dataclass(frozen=True, slots=True)
class FormSpeed:
    """Calibrated speed of one form; costs: (tokens, seconds a position and token) in ascending order of tokens.

    overlaps: whether the fixed cost of a call passes while the one before still runs, as on a GPU.
    """

    call_s: float
    stream: float
    costs: tuple[tuple[int, float], ...]
    overlaps: bool = False

    def cost(self, tokens: int) -> float:
        """Seconds a position and token at `tokens`."""
        points = [t for t, _ in self.costs]
        right = bisect_right(points, tokens)
        if right in (0, len(points)):
            return self.costs[min(right, len(points) - 1)][1]
        (t0, c0), (t1, c1) = self.costs[right - 1], self.costs[right]
        return c0 * math.pow(c1 / c0, math.log(tokens / t0) / math.log(t1 / t0))

    def seconds(self, tokens: int, positions: int, held_bytes: int) -> float:
        """Time of one call by the formula above."""
        work = max(held_bytes / self.stream, tokens * positions * self.cost(tokens))
        return max(self.call_s, work) if self.overlaps else self.call_s + work


@dataclass(frozen=True, slots=True)
class Entry:
    """Speed of one form at one density. form: "dense" or what `form_of` says; dtype: of the weight, as torch's."""

    form: str
    dtype: str
    density: float
    speed: FormSpeed


@dataclass(frozen=True, slots=True)
class Calibration:
    """Speeds measured on one machine.

    kind, isa, threads: of the machine; of a GPU the isa is "cuda" and threads 1. torch_version, version: of torch and
        of sparsecore.
    source: where it comes from, in words. trust: what a predicted ratio is multiplied by.
    """

    kind: str
    isa: str
    threads: int
    torch_version: str
    version: str
    entries: tuple[Entry, ...]
    source: str = "measured on this machine"
    trust: float = 1.0

    @property
    def key(self) -> str:
        """Name of the machine that it holds on: `Machine.key`, or `Gpu.key`."""
        return self.kind if self.isa == CUDA else f"{self.kind}-{self.threads}t"

    def dense(self, dtype: torch.dtype) -> FormSpeed | None:
        """Speed of the dense form; None where it is not known."""
        found = [entry.speed for entry in self._of(dtype) if entry.form == DENSE]
        return found[0] if found else None

    def packed(self, pattern: Pattern, density: float, dtype: torch.dtype, layout: int = 0) -> FormSpeed | None:
        """Speed of the packed form at `density`; None where nothing of the family is known.

        layout: of the resident weight. One of weights that share columns is looked for by its own name; where there is
            none, the weight counts as one that shares none.
        """
        groups: dict[str, list[Entry]] = {}
        for entry in self._of(dtype):
            if entry.form != DENSE:
                groups.setdefault(entry.form, []).append(entry)
        for form in (form_of(pattern, layout), pattern.name):
            if form in groups:
                return _at_density(groups[form], density)
        family = [
            _at_density(group, density)
            for form, group in groups.items()
            if not _SHARED.match(form) and parse(form).kind == pattern.kind
        ]
        return _slowest(family) if family else None

    def _of(self, dtype: torch.dtype) -> Iterable[Entry]:
        name = str(dtype).removeprefix("torch.")
        return (entry for entry in self.entries if entry.dtype == name)


def form_of(pattern: Pattern, layout: int = 0) -> str:
    """Name of a form: the pattern's; of a weight in a layout for shared columns "V:N:M", V the rows that share them."""
    rows = GATHERED.get(layout)
    return pattern.name if rows is None else f"{rows}:{pattern.name}"


def _at_density(entries: Sequence[Entry], density: float) -> FormSpeed:
    """Speed of one pattern between the densities that it was calibrated at."""
    known = sorted(entries, key=lambda entry: entry.density)
    right = bisect_right([entry.density for entry in known], density)
    if right == 0:
        return known[0].speed
    low = known[right - 1]
    if right == len(known):
        return _mixed(low.speed, low.speed, 0.0, density / low.density)
    high = known[right]
    return _mixed(low.speed, high.speed, (density - low.density) / (high.density - low.density), 1.0)


def _mixed(low: FormSpeed, high: FormSpeed, share: float, scale: float) -> FormSpeed:
    tokens = [t for t, _ in low.costs]
    costs = tuple((t, scale * ((1 - share) * low.cost(t) + share * high.cost(t))) for t in tokens)
    return FormSpeed(max(low.call_s, high.call_s), min(low.stream, high.stream), costs, low.overlaps)


def _slowest(speeds: Sequence[FormSpeed]) -> FormSpeed:
    tokens = sorted({t for speed in speeds for t, _ in speed.costs})
    return FormSpeed(
        max(speed.call_s for speed in speeds),
        min(speed.stream for speed in speeds),
        tuple((t, max(speed.cost(t) for speed in speeds)) for t in tokens),
        speeds[0].overlaps,
    )


def path_of(machine: Machine | Gpu) -> Path:
    """File of the user's calibration of `machine`, under $XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sparsecore" / "calibration" / f"{machine.key}.json"


def applicable(machine: Machine | Gpu | None = None) -> Calibration | None:
    """The calibration that holds on `machine`, by default this one: the user's, else the nearest shipped one.

    A file of other versions of torch or sparsecore is passed over. A shipped one of another kind of machine or number
    of threads is trusted less; for an instruction set without one, and a GPU of another name, there is none. Raises
    CorruptFileError for a damaged file of the user.
    """
    machine = machine or describe()
    path = path_of(machine)
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        own = None
    else:
        own = _read_cached(path, changed)
    if own is not None and not stale(own, machine):
        return own
    return _nearest_shipped(machine.kind, machine.isa, machine.threads)


def stale(calibration: Calibration, machine: Machine | Gpu) -> str:
    """Why a calibration no longer holds on `machine`; empty where it does."""
    for name, then, now in (
        ("machine", calibration.key, machine.key),
        ("torch", calibration.torch_version, machine.torch),
        ("sparsecore", calibration.version, sparsecore.__version__),
    ):
        if then != now:
            return f"it was made with {name} {then}, here is {now}"
    return ""


@cache
def _read_cached(path: Path, changed: int) -> Calibration:
    """`changed` only keys the result: a file written anew is read anew."""
    return read(path)


@cache
def _nearest_shipped(kind: str, isa: str, threads: int) -> Calibration | None:
    if isa == CUDA:
        table = _GPUS / f"{kind}.json"
        return replace(read(table), trust=_SAME_KIND) if table.exists() else None
    same_isa = [c for c in shipped() if c.isa == isa]
    if not same_isa:
        return None
    nearest = min(same_isa, key=lambda c: abs(c.threads - threads))
    same = (nearest.kind, nearest.threads) == (kind, threads)
    return replace(nearest, trust=_SAME_KIND if same else _OTHER_KIND)


@cache
def shipped() -> tuple[Calibration, ...]:
    """The calibrations of CPUs in the package; each says where it was measured."""
    data = read_json(_SHIPPED)
    return tuple(_from_dict(one, str(_SHIPPED)) for one in data["calibrations"])


def write(calibration: Calibration, path: Path) -> None:
    """Write `calibration`; a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(to_dict(calibration), indent=None, separators=(",", ":")) + "\n")


def read(path: Path) -> Calibration:
    """Read a calibration. Raises FileMissingError, or CorruptFileError where it is none."""
    try:
        data = read_json(path)
    except CorruptFileError as error:
        raise CorruptFileError(error.what, where=error.where, expected=error.expected, hint=_REMEDY) from error
    return _from_dict(data, str(path))


def to_dict(calibration: Calibration) -> dict[str, Any]:
    """Plain values: seconds in nanoseconds, costs in picoseconds, bytes/s in GB/s, all to four digits."""
    names = ("kind", "isa", "threads", "torch_version", "version", "source")
    entries = [
        {
            "form": entry.form,
            "dtype": entry.dtype,
            "density": entry.density,
            "call_ns": _short(entry.speed.call_s * 1e9),
            "stream_gb_s": _short(entry.speed.stream / 1e9),
            "cost_ps": {str(tokens): _short(cost * 1e12) for tokens, cost in entry.speed.costs},
        }
        for entry in calibration.entries
    ]
    return {"format": _FORMAT, **{name: getattr(calibration, name) for name in names}, "entries": entries}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _from_dict(data: dict[str, Any], where: str) -> Calibration:
    """Raises CorruptFileError unless every field is there, of its type, and every number is positive and finite."""
    try:
        if data["format"] != _FORMAT:
            raise ValueError(f"format {data['format']!r}")
        return Calibration(
            kind=_text(data["kind"]),
            isa=_text(data["isa"]),
            threads=int(_positive(data["threads"])),
            torch_version=_text(data["torch_version"]),
            version=_text(data["version"]),
            entries=tuple(_entry(one, data["isa"] == CUDA) for one in data["entries"]),
            source=_text(data["source"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise CorruptFileError(
            f"not a calibration: {what}",
            where=where,
            expected=f"a file of `sparsecore doctor --calibrate`, format {_FORMAT}",
            hint=_REMEDY,
        ) from error


def _entry(one: dict[str, Any], overlaps: bool) -> Entry:
    costs = tuple((int(tokens), _positive(ps) / 1e12) for tokens, ps in one["cost_ps"].items())
    if not costs or list(costs) != sorted(costs) or costs[0][0] < 1:
        raise ValueError("the token counts of a cost do not ascend from 1 on")
    form = _text(one["form"])
    if form != DENSE:
        parse(_SHARED.sub("", form, count=1))
    density = _positive(one["density"])
    if density > 1:
        raise ValueError(f"density {density}")
    speed = FormSpeed(_positive(one["call_ns"]) / 1e9, _positive(one["stream_gb_s"]) * 1e9, costs, overlaps)
    return Entry(form, _text(one["dtype"]), density, speed)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{value!r} is not a positive number")
    return float(value)
