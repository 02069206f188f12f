"""The host that runs what a design does not: a roofline of two numbers, for a time and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass

from simulator.errors import InvalidValueError

__all__ = ["Host", "parse_host"]


@dataclass(frozen=True, slots=True)
class Host:
    """A machine with a peak rate in 1e9 operations per second and a memory bandwidth in 1e9 bytes per second."""

    name: str
    gflops: float
    gb_per_s: float

    def seconds(self, operations: int, size: int) -> float:
        """Return max(operations / rate, bytes / bandwidth): the roofline of Williams et al., CACM 2009."""
        return max(operations / (self.gflops * 1e9), size / (self.gb_per_s * 1e9))


def parse_host(text: str) -> Host | None:
    """Return the host of "name:GFLOPS,GB/s", such as "cpu:200,50"; None for "none".

    Raises
    ------
    InvalidValueError: anything else, or a number that is not positive.
    """
    if text == "none":
        return None
    match = re.fullmatch(r"([\w-]+):([0-9.eE+]+),([0-9.eE+]+)", text)
    try:
        numbers = (float(match[2]), float(match[3])) if match else (0.0, 0.0)
    except ValueError:
        numbers = (0.0, 0.0)
    if match is None or min(numbers) <= 0:
        expected = '"none" or "name:GFLOPS,GB/s", as in cpu:200,50'
        raise InvalidValueError(f"the host {text!r} is not understood", where="--host", expected=expected)
    return Host(match[1], *numbers)
