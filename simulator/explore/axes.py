"""What a sweep varies: `--vary dram.channels=1:16:x2`, with lists and ranges of values."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

import yaml

from simulator.errors import ConfigError, InvalidValueError, nearest

__all__ = ["RUN_KEYS", "WORKLOAD_KEYS", "Axis", "Value", "parse_axis"]

Value = str | int | float | bool | None
WORKLOAD_KEYS = ("seq_len", "batch", "generate", "schedule")  # options of the workload
RUN_KEYS = ("memory", "fidelity", "seed")  # options of the run; every other key is a setting of the design
MOST_VALUES = 100_000
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(?::(x?)({_NUMBER}))?")


@dataclass(frozen=True, slots=True)
class Axis:
    """One key and its values, for every design or for one (`arch`)."""

    key: str
    values: tuple[Value, ...]
    arch: str | None = None

    @property
    def name(self) -> str:
        """The key as it was given, with the design that it is for."""
        return f"{self.arch}:{self.key}" if self.arch else self.key


def parse_axis(text: str, archs: tuple[str, ...] = ()) -> Axis:
    """Return the axis of "key=1,2,4", "key=1:16:x2", "key=0.1:0.9:0.1", or a mixture; "design:key=..." is for one.

    A range includes its end where a step meets it; without a step it counts by 1.

    Raises
    ------
    ConfigError: not of this form, or a design that is not among `archs`.
    InvalidValueError: no values, a value given twice, or a range that does not get to its end.
    """
    name, equals, listed = text.partition("=")
    arch, colon, key = name.strip().rpartition(":")
    where = f"--vary {text}"
    if not equals or not key:
        raise ConfigError(f"{text!r} varies nothing", where="--vary", expected="key=1,2,4 or key=1:16:x2")
    if colon and arch not in archs:
        raise ConfigError(f"{arch!r} is not simulated", where=where, hint=nearest(arch, archs))
    parts = [part.strip() for part in listed.split(",")]
    if not all(parts):
        raise InvalidValueError("a value is missing", where=where, expected="key=1,2,4 or key=1:16:x2")
    values = tuple(value for part in parts for value in _values(part, where))
    if twice := [value for value, count in Counter(map(repr, values)).items() if count > 1]:
        raise InvalidValueError(f"the value {twice[0]} is given twice", where=where)
    return Axis(key, values, arch or None)


def _values(part: str, where: str) -> list[Value]:
    match = _RANGE.fullmatch(part)
    if match is None:
        return [_scalar(part, where)]
    first, last, times, step = match.groups()
    start, end, by = Decimal(first), Decimal(last), Decimal(step or 1)
    grows = by > 1 and start > 0 if times else by > 0
    if not grows or end < start:
        expected = "start:end:step upwards, or start:end:xfactor with a factor above 1"
        raise InvalidValueError(f"the range {part} does not get to its end", where=where, expected=expected)
    whole = not re.search(r"[.eE]", part)
    found = []
    while start <= end:
        found.append(start)
        start = start * by if times else start + by
        if len(found) > MOST_VALUES:
            raise InvalidValueError(f"the range {part} has more than {MOST_VALUES:,} values", where=where)
    return [int(value) if whole else float(value) for value in found]


def _scalar(text: str, where: str) -> Value:
    """Return a value as YAML reads it, as --set does."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value {text!r} is not readable", where=where) from error
    if isinstance(value, str) and re.fullmatch(_NUMBER, value):
        return float(value)  # YAML 1.1 takes 1e-1 for text
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ConfigError(f"the value {text!r} is no number and no word", where=where, expected="numbers or words")
