"""How much of a model a cascade run keeps: token, head, value and bit schedules.

Source of the rules: SpAtten (HPCA 2021, arXiv 2012.09852): the first 15 % of the layers keep all tokens and the first
30 % all heads; the other layers follow a straight line from r_start to r_end with r_start + r_end = 2 r_avg; ratios
refer to the sequence's original length; counts are rounded down; each cascade only ever removes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from simulator.codec import decode, encode
from sparsecore.errors import InvalidValueError

__all__ = ["Keep", "Schedule"]

Keep = float | tuple[float, ...]

# The published counts are rounded down; 0.29 * 100 is 28.999... in binary and means 29.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Schedule:
    """What cascade pruning keeps. All ratios are kept shares in (0, 1].

    Parameters
    ----------
    token_keep: the mean over all layers, untouched ones included, of kept tokens over the sequence's own length; or one
        ratio per layer (they do not compound, and may not grow; the first is 1, since nothing is known before it).
    head_keep: the same for attention heads.
    value_keep: local V pruning: the share of a layer's kept keys whose V rows a query multiplies, those with the
        largest probabilities; they are not renormalised, as in SpAtten. One number, or one per layer (may grow).
    msb_bits: run attention on quantised K and Q, with K's `msb_bits` high bits first; None: no quantisation.
    lsb_bits: low bits of K, added for the queries whose largest probability stays below `lsb_threshold`.
    value_bits: round V to this many bits, linearly and symmetrically with one scale a token, as Q and K are; None: not.
    token_untouched, head_untouched: share of the layers at the start that keep everything, rounded up; at least one.
    spread: how steep the straight line is: 0 is flat, 1 the steepest that stays within (0, 1]. SpAtten publishes the
        rule r_start + r_end = 2 r_avg but not r_start, and reports that the distribution matters little.
    protect_first: never prune the first token of a sequence. SpAtten does not protect it; the pooler and the heads of
        BERT read it after the last layer, so it is kept by default.
    name: shown in reports.

    Raises
    ------
    InvalidValueError: a ratio outside its range, a list that grows, bit widths out of range.
    """

    token_keep: Keep = 1.0
    head_keep: Keep = 1.0
    value_keep: Keep = 1.0
    msb_bits: int | None = None
    lsb_bits: int = 4
    lsb_threshold: float = 0.1
    value_bits: int | None = None
    token_untouched: float = 0.15
    head_untouched: float = 0.30
    spread: float = 0.25
    protect_first: bool = True
    name: str = ""

    def __post_init__(self) -> None:
        for name in ("token_keep", "head_keep", "value_keep"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, _checked_list(value, name, may_grow=name == "value_keep"))
            else:
                _check_ratio(value, name)
        for name in ("token_untouched", "head_untouched", "spread", "lsb_threshold"):
            _check_share(getattr(self, name), name)
        if self.msb_bits is not None:
            _check_bits(self.msb_bits, "msb_bits", 2)
            _check_bits(self.lsb_bits, "lsb_bits", 0)
            _check_bits(self.msb_bits + self.lsb_bits, "msb_bits + lsb_bits", 2)
        if self.value_bits is not None:
            _check_bits(self.value_bits, "value_bits", 2)

    def token_counts(self, length: int, layers: int) -> tuple[int, ...]:
        """Return how many of `length` tokens each of `layers` layers computes, at least 1 (0 for an empty sequence).

        The counts never grow. For a mean their sum is `token_keep * length * layers` rounded to the nearest possible.

        Raises
        ------
        InvalidValueError: a list of another length, or a mean that the untouched layers alone exceed.
        """
        return _counts(self.token_keep, self.token_untouched, self.spread, length, layers, "token_keep")

    def head_counts(self, heads: int, layers: int) -> tuple[int, ...]:
        """Return how many of `heads` heads each layer computes; rules and errors as for `token_counts`."""
        return _counts(self.head_keep, self.head_untouched, self.spread, heads, layers, "head_keep")

    def value_ratio(self, layer: int) -> float:
        """Return the share of kept V rows that a query of `layer` multiplies."""
        return self.value_keep[layer] if isinstance(self.value_keep, tuple) else self.value_keep

    def value_count(self, keys: int, layer: int) -> int:
        """Return how many of `keys` V rows a query of `layer` multiplies: rounded down, at least 1 if there are any."""
        return min(keys, max(1, math.floor(self.value_ratio(layer) * keys + _ROUNDING)))

    def check(self, layers: int, heads: int) -> None:
        """Raise InvalidValueError where the schedule cannot be met by `layers` layers of `heads` heads."""
        self.token_counts(1, layers)
        self.head_counts(heads, layers)
        if isinstance(self.value_keep, tuple) and len(self.value_keep) != layers:
            raise _wrong_depth("value_keep", len(self.value_keep), layers)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        fields: dict[str, Any] = encode(self)
        return fields

    @classmethod
    def from_json(cls, data: object, where: str = "schedule") -> Schedule:
        """Build a schedule from `to_json`'s values.

        Raises
        ------
        CorruptFileError: an unknown key, or a value of the wrong kind or out of range.
        """
        return decode(cls, data, where)


def _check_ratio(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InvalidValueError(f"{name} is {value!r}", where="Schedule", expected="a kept share in (0, 1]")


def _checked_list(values: list[float] | tuple[float, ...], name: str, may_grow: bool) -> tuple[float, ...]:
    if not values:
        raise InvalidValueError(f"{name} is an empty list", where="Schedule", expected="one ratio per layer")
    for layer, value in enumerate(values):
        _check_ratio(value, f"{name}[{layer}]")
        if layer and value > values[layer - 1] and not may_grow:
            raise InvalidValueError(
                f"{name}[{layer}] is {value}, more than the layer before keeps",
                where="Schedule",
                expected="ratios that do not grow: a pruned token or head does not come back",
            )
    if values[0] != 1 and not may_grow:
        raise InvalidValueError(
            f"{name}[0] is {values[0]}",
            where="Schedule",
            expected="1: no importance is known before the first layer",
            hint=f"one ratio per layer that starts with 1: [1, {values[0]}, ...]",
        )
    return tuple(float(value) for value in values)


def _check_share(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidValueError(f"{name} is {value!r}", where="Schedule", expected="a number in [0, 1]")


def _check_bits(value: object, name: str, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= 16:
        raise InvalidValueError(f"{name} is {value!r}", where="Schedule", expected=f"a whole number in [{low}, 16]")


def _wrong_depth(name: str, given: int, layers: int) -> InvalidValueError:
    return InvalidValueError(
        f"{name} has {given} ratios for a model of {layers} layers",
        where="Schedule",
        expected=f"{layers} ratios, or one number",
    )


@lru_cache(maxsize=4096)
def _counts(keep: Keep, untouched: float, spread: float, total: int, layers: int, name: str) -> tuple[int, ...]:
    if isinstance(keep, tuple):
        if len(keep) != layers:
            raise _wrong_depth(name, len(keep), layers)
        return tuple(min(total, max(1, math.floor(ratio * total + _ROUNDING))) for ratio in keep)
    ratios = _line(keep, untouched, spread, layers, name)
    return _rounded([ratio * total for ratio in ratios], total)


def _line(keep: float, untouched: float, spread: float, layers: int, name: str) -> list[float]:
    """Return per-layer ratios: 1 for the untouched layers, then a straight line, with the mean `keep`."""
    whole = max(1, math.ceil(untouched * layers - _ROUNDING))
    if keep == 1.0:
        return [1.0] * layers
    pruned = layers - whole
    mean = (keep * layers - whole) / pruned if pruned else 0.0
    if mean <= 0:
        raise InvalidValueError(
            f"{name} {keep} cannot be reached: {whole} of {layers} layers are untouched",
            where="Schedule",
            expected=f"more than {whole / layers:.3f}",
            hint="give one ratio per layer, or a smaller untouched share",
        )
    step = spread * min(1.0 - mean, mean)
    position = [2 * i / (pruned - 1) - 1 if pruned > 1 else 0.0 for i in range(pruned)]
    return [1.0] * whole + [mean - step * x for x in position]


def _rounded(ideal: list[float], total: int) -> tuple[int, ...]:
    """Round non-growing `ideal` to counts in [1, total] with the nearest sum; layers that keep everything stay."""
    if total == 0:
        return (0,) * len(ideal)
    counts = [min(total, max(1, math.floor(value + _ROUNDING))) for value in ideal]
    surplus = sum(counts) - round(sum(ideal))
    layers = sorted(range(len(ideal)), key=lambda i: counts[i] - ideal[i])
    for layer in layers[: max(-surplus, 0)]:  # the largest remainders go up
        counts[layer] += 1
    while surplus > 0:  # the floor of 1 lifted layers: take it back where most is left
        layer = max((i for i in layers if ideal[i] < total), key=lambda i: counts[i])
        if counts[layer] == 1:
            break
        counts[layer] -= 1
        surplus -= 1
    return tuple(sorted((min(total, count) for count in counts), reverse=True))
