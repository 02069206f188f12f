"""What a fair comparison holds equal: multipliers, DRAM bandwidth and SRAM, and the settings they follow from.

A design says with a `Resource` for each of them which of its settings make it up; the DRAM's bandwidth is, unless it
says otherwise, that of the section `dram` that all designs have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BANDWIDTH", "MULTIPLIERS", "SRAM", "Resource", "proportion", "setting"]

MULTIPLIERS, BANDWIDTH, SRAM = "multipliers", "bandwidth_gbps", "sram_bytes"


@dataclass(frozen=True, slots=True)
class Resource:
    """The settings that an amount follows from.

    Parameters
    ----------
    keys: dotted settings with whole numbers of 1 or more, which another amount changes. combine: whether the amount is
        their product or their sum.
    times: settings that it is multiplied with, and that stay. factor: times this, such as the number of equal arrays.
    fixed: why the amount cannot be another one; "": it can.
    """

    keys: tuple[str, ...]
    combine: Literal["product", "sum"] = "product"
    times: tuple[str, ...] = ()
    factor: float = 1
    fixed: str = ""

    def amount(self, settings: Any) -> float:
        """Return the amount that `settings` have."""
        values = self._values(settings)
        return self._unit(settings) * (math.prod(values) if self.combine == "product" else sum(values))

    def _unit(self, settings: Any) -> float:
        return self.factor * math.prod(int(setting(settings, key)) for key in self.times)

    def changes(self, settings: Any, wanted: float) -> dict[str, int]:
        """Return the settings with the amount nearest to `wanted`, not above it where that is possible.

        A product keeps the proportions of its factors as far as whole numbers let it, a sum those of its parts.
        """
        if self.fixed:
            return {}
        values, units = self._values(settings), max(int(wanted // self._unit(settings)), 1)
        if self.combine == "sum":
            found = _shares(values, max(units, len(values)))
        else:
            found = min(_factors(units, len(values)), key=lambda new: _distortion(new, values))
        return {key: new for key, new, old in zip(self.keys, found, values) if new != old}

    def _values(self, settings: Any) -> tuple[int, ...]:
        return tuple(int(setting(settings, key)) for key in self.keys)


def setting(settings: Any, key: str) -> Any:
    """Return the value of a dotted key."""
    for part in key.split("."):
        settings = settings[part] if isinstance(settings, Mapping) else getattr(settings, part)
    return settings


def proportion(settings: Any, published: Mapping[str, int]) -> float:
    """Return how much larger `settings` are than those that a published power or area is for, as a product."""
    return math.prod(int(setting(settings, key)) / built for key, built in published.items())


def _factors(number: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to write `number` as a product of `count` whole numbers, in order."""
    if count == 1:
        yield (number,)
        return
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    for first in {*small, *(number // n for n in small)}:
        for rest in _factors(number // first, count - 1):
            yield (first, *rest)


def _distortion(new: tuple[int, ...], old: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
    """How far the factors are from being scaled by one number; equal ones are told apart by the factors themselves."""
    logs = [math.log(a / b) for a, b in zip(new, old)]
    return max(logs) - min(logs), new


def _shares(values: tuple[int, ...], total: int) -> tuple[int, ...]:
    """Return `total` in parts in the proportions of `values`, each at least 1."""
    whole = [max(total * value // sum(values), 1) for value in values]
    while short := total - sum(whole):
        step = 1 if short > 0 else -1
        free = (i for i, part in enumerate(whole) if part + step >= 1)
        whole[max(free, key=lambda i: step * (total * values[i] / sum(values) - whole[i]))] += step
    return tuple(whole)
