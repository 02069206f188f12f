"""Quantities as text with a unit, "14 ns" or "1 KiB": a bare number is refused, as its unit would be a guess."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainValidator

from simulator.errors import nearest

__all__ = ["Bytes", "Current", "Duration", "Frequency", "Time", "TimeAbove0", "Voltage", "split_quantity"]

# Far beyond any memory, and products of two of them still fit 64 bit (time x frequency = ticks).
LEAST, MOST = 1e-9, 1e9
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z/]*)\s*")


@dataclass(frozen=True, slots=True)
class Duration:
    """A time of the memory: in nanoseconds, or in clocks of its command clock ("ck")."""

    value: float
    unit: str = "ns"

    def ns(self, clock_ghz: float) -> float:
        """Return the time in ns at a command clock."""
        return self.value / clock_ghz if self.unit == "ck" else self.value

    def ticks(self, clock_ghz: float) -> int:
        """Return the clocks that cover the time, rounded up as a controller would program them."""
        return math.ceil(round(self.ns(clock_ghz) * clock_ghz, 6))


def split_quantity(text: str) -> tuple[float, str] | None:
    """Return the number and the unit in `text`, the unit "" if there is none; None where it is no quantity."""
    match = _QUANTITY.fullmatch(text)
    return (float(match[1]), match[2]) if match else None


def _reader(kind: str, example: str, units: dict[str, float], positive: bool) -> Callable[[object], tuple[float, str]]:
    """Return a function from text to (value in the base unit, unit as written)."""

    def read(given: object) -> tuple[float, str]:
        found = split_quantity(given) if isinstance(given, str) else None
        if found is None or not found[1]:
            raise ValueError(f"the value should be a {kind} with its unit, such as {example}")
        value, unit = found
        if unit not in units:
            raise ValueError(f"unknown unit {unit!r} of a {kind}: {nearest(unit, units)} (as in {example})")
        if value < 0 or (positive and value == 0):
            raise ValueError(f"the {kind} should be {'more than 0' if positive else '0 or more'}")
        base = value * units[unit]
        if value and not LEAST <= base <= MOST:
            raise ValueError(f"the {kind} is out of any memory's range, as in {example}")
        return base, unit

    return read


_NS = {"ps": 1e-3, "ns": 1.0, "us": 1e3, "ms": 1e6}
_time = _reader("time", "14 ns or 14 ck", {**_NS, "ck": 1.0}, positive=False)
_time_above_0 = _reader("time", "2 ns or 2 ck", {**_NS, "ck": 1.0}, positive=True)
_frequency = _reader("frequency", "1 GHz", {"kHz": 1e-6, "MHz": 1e-3, "GHz": 1.0}, positive=True)
_bytes = _reader("size", "1 KiB or 32 B", {"B": 1.0, "KiB": 1024.0, "MiB": 1048576.0}, positive=True)
_current = _reader("current", "65 mA", {"uA": 1e-3, "mA": 1.0, "A": 1e3}, positive=False)
_voltage = _reader("voltage", "1.2 V", {"mV": 1e-3, "V": 1.0}, positive=True)


def _duration(read: Callable[[object], tuple[float, str]]) -> Callable[[object], Duration]:
    def validate(given: object) -> Duration:
        if isinstance(given, Duration):
            return given
        value, unit = read(given)
        return Duration(value, "ck" if unit == "ck" else "ns")

    return validate


def _whole_bytes(given: object) -> int:
    value, _ = _bytes(given)
    if value != int(value):
        raise ValueError("the size should be a whole number of bytes")
    return int(value)


Time = Annotated[Duration, PlainValidator(_duration(_time))]
TimeAbove0 = Annotated[Duration, PlainValidator(_duration(_time_above_0))]
Frequency = Annotated[float, PlainValidator(lambda given: _frequency(given)[0])]
Bytes = Annotated[int, PlainValidator(_whole_bytes)]
Current = Annotated[float, PlainValidator(lambda given: _current(given)[0])]
Voltage = Annotated[float, PlainValidator(lambda given: _voltage(given)[0])]
