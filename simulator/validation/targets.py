"""The targets: published values, each with its unit, source, class and tolerance, read from `targets/*.yaml`.

Four classes. A *definition* follows from stated parameters by arithmetic; a *prediction* is of a number that nothing in
the model was set with in view: these two can pass or fail. A *calibration* shows a constant that was set from the
published value; an *input unpublished* needs ratios, widths or lengths that nobody printed, so that ours is an interval
over a stated range of assumptions: these two are shown and never counted.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from simulator.config import Document, load_yaml, validate
from simulator.errors import ConfigError
from simulator.settings import Settings

__all__ = ["CLASSES", "COUNTED", "Class", "Target", "Tolerance", "TOPICS", "Topic", "load_topic", "shipped_topics"]

Class = Literal["definition", "prediction", "calibration", "input unpublished"]
TOPICS = (
    "machine",
    "workloads",
    "time",
    "power",
    "area",
    "averages",
    "a3",
    "mnnfast",
    "elsa",
    "sanger",
    "systolic",
    "processors",
)  # files, in the order of the report
CLASSES: tuple[Class, ...] = ("definition", "prediction", "calibration", "input unpublished")
COUNTED: tuple[Class, ...] = ("definition", "prediction")


class Tolerance(Settings):
    """How far ours may be from the published value: one of the three.

    relative: |ours / published - 1|. absolute: |ours - published|, in the unit of the value; 0 is exact, half of the
    last printed digit stands for the rounding of the publication. factor: ours / published, or its inverse.
    """

    relative: float | None = Field(None, gt=0)
    absolute: float | None = Field(None, ge=0)
    factor: float | None = Field(None, gt=1)

    @model_validator(mode="after")
    def _one(self) -> Tolerance:
        if sum(value is not None for value in (self.relative, self.absolute, self.factor)) != 1:
            raise ValueError("expected exactly one of relative, absolute, factor")
        return self

    def holds(self, ours: float, published: float) -> bool:
        """Whether `ours` is inside; the bounds belong to it."""
        if self.absolute is not None:
            return abs(ours - published) <= self.absolute * (1 + 1e-9) + 1e-12 * abs(published)
        if ours <= 0 or published <= 0:
            return False
        if self.relative is not None:
            return abs(ours / published - 1) <= self.relative
        assert self.factor is not None
        return 1 / self.factor <= ours / published <= self.factor

    def __str__(self) -> str:
        if self.relative is not None:
            return f"{100 * self.relative:g} %"
        if self.factor is not None:
            return f"factor {self.factor:g}"
        return f"± {self.absolute:g}" if self.absolute else "exact"


class Target(Settings):
    """One published value and how ours is computed.

    Parameters
    ----------
    what: the quantity in words. value, unit: as published. source: paper and table, section or figure; or the file.
    measure, parameters: a function of `simulator.validation.measures` and its arguments.
    operations: which operations a rate counts; required where the unit has GOP or FLOP.
    assumptions: the range that ours spans (input unpublished).
    known_miss: why a counted row is outside its tolerance; the run still succeeds.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    what: str = Field(min_length=1)
    class_: Class = Field(alias="class")
    value: float
    unit: str
    source: str = Field(min_length=1)
    tolerance: Tolerance | None = None
    measure: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    operations: Literal["executed", "dense"] | None = None
    assumptions: str = ""
    known_miss: str = ""

    @property
    def counted(self) -> bool:
        """Whether the row can pass or fail."""
        return self.class_ in COUNTED

    @model_validator(mode="after")
    def _fits_its_class(self) -> Target:
        if self.counted != (self.tolerance is not None):
            raise ValueError(f"a {self.class_} {'needs a' if self.counted else 'has no'} tolerance")
        if self.known_miss and not self.counted:
            raise ValueError(f"a {self.class_} is not counted: it has no known_miss")
        if bool(self.assumptions) != (self.class_ == "input unpublished"):
            raise ValueError("assumptions belong to the class 'input unpublished', and it needs them")
        if ("GOP" in self.unit or "FLOP" in self.unit) and self.operations is None:
            raise ValueError(f"a value in {self.unit} needs operations: executed or dense")
        return self


class _TopicFile(Settings):
    title: str = Field(min_length=1)
    targets: list[Target] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> _TopicFile:
        names = [target.name for target in self.targets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the name {twice[0]!r} is given twice")
        return self


class Topic:
    """The targets of one file, in its order; `document` knows their lines."""

    def __init__(self, name: str, document: Document) -> None:
        file = validate(_TopicFile, document)
        self.name, self.title, self.document = name, file.title, document
        self.targets = tuple(file.targets)


def load_topic(path: str | os.PathLike[str]) -> Topic:
    """Return the targets in a YAML file.

    Raises
    ------
    FileMissingError: no such file.
    ConfigError: an unknown, missing or mistyped key (its line), or one that contradicts the target's class.
    """
    return Topic(Path(path).stem, load_yaml(path))


@lru_cache(maxsize=1)
def shipped_topics() -> tuple[Topic, ...]:
    """Return the targets of the package, by topic; no name stands in two of them."""
    folder = Path(str(resources.files("simulator.validation") / "targets"))
    topics = tuple(load_topic(folder / f"{name}.yaml") for name in TOPICS)
    names = [target.name for topic in topics for target in topic.targets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"the target {twice[0]!r} stands in two files", where=str(folder))
    return topics
