"""Pruning schedules: the share of tokens, heads, V rows and low bits in each layer, where no run has measured them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from simulator.config import Document, load_yaml, parse_yaml, validate
from simulator.errors import ConfigError, UnknownNameError, nearest
from simulator.workload.ir import Kind, ModelInfo, Phase

__all__ = ["LayerPlan", "Schedule", "builtin_names", "default_schedule", "kept", "load_schedule"]

Ratio = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
_as_list = BeforeValidator(lambda value: value if isinstance(value, list) else [value])
Ratios = Annotated[list[Ratio], Field(min_length=1), _as_list]
Shares = Annotated[list[Share], Field(min_length=1), _as_list]
Bits = Annotated[int, Field(ge=1, le=32)]


def kept(count: int, ratio: float) -> int:
    """Return floor(count * ratio), at least 1 of a non-empty set (the rounding of the released SpAtten workloads).

    The product is rounded to 9 digits first, so that 0.29 of 100 is 29 in spite of binary fractions.
    """
    return min(count, max(1, math.floor(round(count * ratio, 9))))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ramp(_Strict):
    """The published rule: the first layers keep everything, the ratio of the rest falls linearly from start to end.

    start + end = 2 * average, where average is over the layers that prune (SpAtten, section III-B).
    """

    unpruned: Share
    average: Ratio
    start: Ratio

    @property
    def end(self) -> float:
        """The keep ratio of the last layer."""
        return 2 * self.average - self.start

    @model_validator(mode="after")
    def _check_end(self) -> Ramp:
        if not 0 < self.end <= self.start:
            raise ValueError(f"the ramp ends at {self.end:g} = 2 * average - start: outside (0, start]")
        return self

    def ratios(self, layers: int) -> tuple[float, ...]:
        """Return the keep ratio of each of `layers` layers; the number of unpruned ones is rounded up."""
        whole = min(layers, math.ceil(round(self.unpruned * layers, 9)))
        rest = layers - whole
        slope = (self.end - self.start) / max(rest - 1, 1)
        falling = (self.start + slope * i for i in range(rest)) if rest > 1 else (self.average,) * rest
        return (1.0,) * whole + tuple(falling)


class BitWidths(_Strict):
    """Stored widths in bits; key_lsb 0 means that K is read in one pass."""

    query: Bits = 12
    key_msb: Bits = 12
    key_lsb: Annotated[int, Field(ge=0, le=31)] = 0
    value: Bits = 12


class PublishedFor(_Strict):
    """A set-up for which the numbers are published; for any other they are assumed."""

    family: str
    layers: int
    heads: int
    seq_len: int
    generate: int


class _ScheduleFile(_Strict):
    name: str = ""
    description: str = ""
    source: str = "user"
    default_for: list[str] = []
    layers: Annotated[int, Field(ge=1)] | None = None
    token_keep: Ratios | None = None
    token_keep_ramp: Ramp | None = None
    head_keep: Ratios | None = None
    head_keep_ramp: Ramp | None = None
    value_keep: Ratios = [1.0]
    lsb_share: Shares = [0.0]
    lsb_share_first: Shares | None = None
    bits: BitWidths = BitWidths()
    phases: list[Literal["summarise", "generate"]] = ["summarise", "generate"]
    protect: Annotated[int, Field(ge=0)] = 0
    published_for: Annotated[list[PublishedFor], _as_list] = []
    assumed: list[Literal["tokens", "heads", "values", "lsb", "bits"]] = []

    @model_validator(mode="after")
    def _check_together(self) -> _ScheduleFile:
        for name in ("token_keep", "head_keep"):
            ratios = getattr(self, name)
            if ratios is not None and getattr(self, f"{name}_ramp") is not None:
                raise ValueError(f"{name} and {name}_ramp are both given: one is enough")
            if ratios is not None and any(b > a for a, b in pairwise(ratios)):
                raise ValueError(f"{name} {ratios} rises: what a layer has pruned does not come back in a later one")
        lists = ("token_keep", "head_keep", "value_keep", "lsb_share", "lsb_share_first")
        counts = {name: len(getattr(self, name) or [1]) for name in lists}
        layers = self.layers or max(counts.values())
        if wrong := [f"{name} has {count}" for name, count in counts.items() if count not in (1, layers)]:
            raise ValueError(f"{', '.join(wrong)} entries: expected 1 or one for each of {layers} layers")
        return self


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """Per layer: what is kept of the original tokens, of the heads and of the kept K rows; share of low-bit queries.

    first_lsb_share is that of the first generated token.
    """

    token_keep: float
    head_keep: float
    value_keep: float
    lsb_share: float
    first_lsb_share: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """A pruning schedule for models of any depth.

    Parameters
    ----------
    name, description, source: for the reports; source is where the numbers come from.
    phases: the phases in which it prunes; in the other one everything is kept and K is read at its full width.
    bits: stored widths. default_for: model families whose documented default it is.
    protect: how many of the first tokens are never pruned (1: a class token).
    assumed: decisions that are assumed even in the set-up that the schedule was published for.
    """

    name: str
    description: str
    source: str
    phases: tuple[Phase, ...]
    bits: BitWidths
    default_for: tuple[str, ...]
    protect: int
    assumed: frozenset[str]
    _file: _ScheduleFile

    def plan(self, layers: int) -> tuple[LayerPlan, ...]:
        """Return the plan of each layer; a list for another depth is read at the same relative depth."""
        file = self._file
        tokens = file.token_keep_ramp.ratios(layers) if file.token_keep_ramp else self._spread(file.token_keep, layers)
        heads = file.head_keep_ramp.ratios(layers) if file.head_keep_ramp else self._spread(file.head_keep, layers)
        values, low = self._spread(file.value_keep, layers), self._spread(file.lsb_share, layers)
        first = low if file.lsb_share_first is None else self._spread(file.lsb_share_first, layers)
        return tuple(LayerPlan(*ratios) for ratios in zip(tokens, heads, values, low, first, strict=True))

    @staticmethod
    def _spread(ratios: list[float] | None, layers: int) -> tuple[float, ...]:
        ratios = ratios or [1.0]
        return tuple(ratios[(2 * layer + 1) * len(ratios) // (2 * layers)] for layer in range(layers))

    def kind(self, model: ModelInfo, seq_len: int, generate: int, phase: Phase) -> Kind:
        """Return "published" for exactly the set-up whose numbers were published, else "assumed"."""
        given = PublishedFor(
            family=model.family, layers=model.layers, heads=model.heads, seq_len=seq_len, generate=generate
        )
        return "published" if phase in self.phases and given in self._file.published_for else "assumed"


def load_schedule(name: str | os.PathLike[str]) -> Schedule:
    """Return a built-in schedule by its name, or the one in a YAML or JSON file.

    Raises
    ------
    UnknownNameError: neither a built-in name nor a file.
    ConfigError: unknown key (line, nearest name), a ratio outside (0, 1], or ratios that rise from layer to layer.
    """
    text = os.fspath(name)
    if text in builtin_names():
        return _builtin(text)
    if Path(text).suffix in (".yaml", ".yml", ".json") or Path(text).is_file():
        return _from_document(load_yaml(text), Path(text).stem)
    raise UnknownNameError(
        f"no schedule named {text!r}",
        where="--schedule",
        expected="a .yaml or .json file, or " + ", ".join(builtin_names()),
        hint=nearest(text, builtin_names()),
    )


def default_schedule(family: str) -> Schedule:
    """Return the documented schedule for a model family; "none" where there is no published one."""
    for name in builtin_names():
        schedule = _builtin(name)
        if family in schedule.default_for:
            return schedule
    return _builtin("none")


def builtin_names() -> tuple[str, ...]:
    """Return the names of the schedules that ship with the package."""
    folder = resources.files("simulator.workload") / "builtin" / "schedules"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def _builtin(name: str) -> Schedule:
    entry = resources.files("simulator.workload") / "builtin" / "schedules" / f"{name}.yaml"
    return _from_document(parse_yaml(entry.read_text(encoding="utf-8"), f"{name}.yaml"), name)


def _from_document(document: Document, stem: str) -> Schedule:
    file = validate(_ScheduleFile, document)
    if not file.phases:
        raise ConfigError("the schedule prunes in no phase", where=document.place(["phases"]), expected="summarise")
    return Schedule(
        name=file.name or stem,
        description=file.description,
        source=file.source,
        phases=tuple(file.phases),
        bits=file.bits,
        default_for=tuple(file.default_for),
        protect=file.protect,
        assumed=frozenset(file.assumed),
        _file=file,
    )
