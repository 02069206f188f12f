"""What ships with the package: models by their sizes, and workloads by name, such as gpt2-medium@wikitext2."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from simulator.config import parse_yaml, validate
from simulator.errors import InvalidValueError
from simulator.workload.ir import ModelInfo, Workload
from simulator.workload.request import ReadRequest
from simulator.workload.scheduled import from_sizes

__all__ = ["builtin_models", "builtin_workloads", "describe_builtin", "model_sizes", "read_builtin"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    source: str
    family: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocab: int
    parameters: int
    dtype: str
    seq_len: Annotated[int, Field(ge=1)]
    generate: Annotated[int, Field(ge=0)] = 0

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(**self.model_dump(exclude={"name", "source", "seq_len", "generate"}))


class _Use(BaseModel):
    model_config = ConfigDict(extra="forbid")

    about: str
    seq_len: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=1)] = 1


class _Entry(BaseModel):
    """An entry of workloads.yaml: a workload for each of `models` (shown name -> sizes) and each of `uses`."""

    model_config = ConfigDict(extra="forbid")

    models: dict[str, str]
    schedule: str
    source: str
    phase: Literal["all", "generate"] = "all"
    assumed_length: bool = False
    uses: dict[str, _Use]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    workloads: list[_Entry]


@dataclass(frozen=True, slots=True)
class _Named:
    model: str
    entry: _Entry
    use: _Use


_ALIASES = {"gpt2-small": "gpt2"}  # the papers' name -> that of the file and of the Hugging Face model
_FILES = resources.files("simulator.workload") / "builtin"


@cache
def builtin_models() -> tuple[str, ...]:
    """Return the names of the models whose sizes ship with the package."""
    files = (_FILES / "models").iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in files if entry.name.endswith(".yaml")))


@cache
def _named() -> dict[str, _Named]:
    text = (_FILES / "workloads.yaml").read_text(encoding="utf-8")
    entries = validate(_File, parse_yaml(text, "workloads.yaml")).workloads
    return {
        f"{name}@{called}": _Named(model, entry, use)
        for entry in entries
        for name, model in entry.models.items()
        for called, use in entry.uses.items()
    }


def builtin_workloads() -> tuple[str, ...]:
    """Return every name that stands for a workload: of a model, or of one of its uses (MODEL@WHAT)."""
    return tuple(sorted((*builtin_models(), *_ALIASES, *_named())))


@cache
def _model(name: str) -> _Model:
    text = (_FILES / "models" / f"{name}.yaml").read_text(encoding="utf-8")
    return validate(_Model, parse_yaml(text, f"{name}.yaml"))


def model_sizes() -> tuple[ModelInfo, ...]:
    """Return the sizes of all built-in models."""
    return tuple(_model(name).info for name in builtin_models())


def describe_builtin(name: str) -> str:
    """Return in words what the built-in workload `name` is."""
    named = _named().get(name)
    if named is None:
        model = _model(_ALIASES.get(name, name))
        return f"{model.seq_len} tokens" + (f", then {model.generate} generated" if model.generate else "")
    assumed = f", {named.use.seq_len} tokens: an assumed length" if named.entry.assumed_length else ""
    return named.use.about + assumed


def read_builtin(name: str, request: ReadRequest) -> Workload:
    """Return a built-in workload; lengths and batch are its own where `request` has none.

    Raises
    ------
    InvalidValueError: an option that does not fit, or a length out of range.
    """
    named = _named().get(name)
    model = _model(named.model if named else _ALIASES.get(name, name))
    lengths = (model.seq_len, model.generate)
    if named is None:
        return from_sizes(model.info, request, name, model.source, None, lengths)
    entry, use = named.entry, named.use
    asked = dataclasses.replace(
        request,
        schedule=entry.schedule,
        seq_len=request.seq_len or use.seq_len,
        batch=use.batch if request.batch == 1 else request.batch,
    )
    whole = from_sizes(model.info, asked, name, f"{model.source}; {entry.source}", None, lengths)
    part = whole if entry.phase == "all" else whole.only(entry.phase)
    if not part.attention:
        raise InvalidValueError(f"{name} is a generation", where="--generate", expected="1 or more tokens")
    notes = (f"{name}: {describe_builtin(name)}",) if request.seq_len is None else ()
    return dataclasses.replace(part, name=name, notes=(*notes, *part.notes))
