"""What a measure returns, and the register of measures that targets name."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

from pydantic import BaseModel, ConfigDict, create_model

from simulator.config import Document, validate
from simulator.errors import ConfigError, nearest
from simulator.validation.bench import Bench
from simulator.validation.targets import Target, Topic

__all__ = ["MEASURES", "Measured", "Part", "arguments", "measure"]

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Part:
    """Something printed beside a value, such as another mean: a value, or an interval; `unit` "" is the row's."""

    name: str
    low: float
    high: float
    unit: str = ""

    @staticmethod
    def of(name: str, value: float, unit: str = "") -> Part:
        """Return a value that is no interval."""
        return Part(name, value, value, unit)


@dataclass(frozen=True, slots=True)
class Measured:
    """Ours.

    Parameters
    ----------
    low, high: equal, or an interval. note: how it was computed, where that is not obvious.
    parts: what is printed beside it. fixed: the part of it that a constant calibrated on it does not scale.
    """

    low: float
    high: float
    note: str = ""
    parts: tuple[Part, ...] = ()
    fixed: float = 0.0

    @staticmethod
    def of(value: float, note: str = "", parts: tuple[Part, ...] = ()) -> Measured:
        """Return a value that is no interval."""
        return Measured(float(value), float(value), note, parts)


Measure = Callable[..., Measured]
MEASURES: dict[str, Measure] = {}


def measure(function: Callable[Concatenate[Bench, P], Measured]) -> Callable[Concatenate[Bench, P], Measured]:
    """Register a function of a Bench and keyword parameters under its name."""
    MEASURES[function.__name__] = function
    return function


def arguments(target: Target, topic: Topic) -> dict[str, Any]:
    """Return the checked arguments of the target's measure.

    Raises
    ------
    ConfigError: no such measure, or an unknown, missing or mistyped parameter (its line).
    """
    index = topic.targets.index(target)
    function = MEASURES.get(target.measure)
    if function is None:
        where = topic.document.place(["targets", index, "measure"])
        raise ConfigError(f"no measure named {target.measure!r}", where=where, hint=nearest(target.measure, MEASURES))
    path = ("targets", index, "parameters")
    lines = {key[len(path) :]: line for key, line in topic.document.lines.items() if key[: len(path)] == path}
    lines.setdefault((), topic.document.lines["targets", index])
    checked = validate(_model(function), Document(target.parameters, topic.document.where, lines))
    return {name: getattr(checked, name) for name in type(checked).model_fields}


def _model(function: Measure) -> type[BaseModel]:
    """Return the pydantic model of a measure's parameters, from its signature."""
    hints = typing.get_type_hints(function)
    fields: dict[str, Any] = {
        name: (hints[name], ... if item.default is inspect.Parameter.empty else item.default)
        for name, item in list(inspect.signature(function).parameters.items())[1:]
    }
    return create_model(function.__name__, __config__=ConfigDict(extra="forbid", strict=True), **fields)
