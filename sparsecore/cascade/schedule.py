"""How much of a model a cascade run keeps: token, head, value and bit schedules.

Source of the rules: SpAtten (HPCA 2021, arXiv 2012.09852): the first 15 % of the layers keep all tokens and the first
30 % all heads; the other layers follow a straight line from r_start to r_end with r_start + r_end = 2 r_avg; ratios
refer to the sequence's original length; counts are rounded down; each cascade only ever removes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard

from torch import Tensor

from simulator.codec import decode, encode
from sparsecore.cascade.plan import ROUNDING, Counts, Plan
from sparsecore.errors import InvalidValueError

__all__ = ["Keep", "Schedule"]

Keep = float | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What cascade pruning keeps. All ratios are kept shares in (0, 1]; spread=0 is a constant one.

    Parameters
    ----------
    token_keep: the mean over all layers, untouched ones included, of kept tokens over the sequence's own length; or one
        ratio a layer of that length (they do not compound and may not grow); or one count of tokens a layer: a list
        with a number above 1 is a list of counts. An encoder's first layer computes everything, since nothing is known
        before it.
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
    sink, recent: so many tokens at the start and at the end of a sequence are never pruned.
    name: shown in reports.

    Raises
    ------
    InvalidValueError: a ratio outside (0, 1], a list that grows, bit widths that are not offered.
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
    sink: int = 0
    recent: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        for name in ("token_keep", "head_keep", "value_keep"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, _checked_list(value, name))
            else:
                _check_ratio(value, name)
        for name in ("token_untouched", "head_untouched", "spread", "lsb_threshold"):
            _check_share(getattr(self, name), name)
        for name in ("sink", "recent"):
            _check_number(getattr(self, name), name)
        if self.msb_bits is not None:
            _check_bits(self.msb_bits, "msb_bits", 2)
            _check_bits(self.lsb_bits, "lsb_bits", 0)
            _check_bits(self.msb_bits + self.lsb_bits, "msb_bits + lsb_bits", 2)
        if self.value_bits is not None:
            _check_bits(self.value_bits, "value_bits", 2)

    def plan(self, layers: int, heads: int) -> Plan:
        """Return the schedule of a model of `layers` layers of `heads` heads, one entry a layer.

        Raises
        ------
        InvalidValueError: a list of another length, more heads than there are, or a mean that the untouched layers
            alone exceed (the smallest possible one is named); no layers or no heads.
        """
        for name, size in (("layers", layers), ("heads", heads)):
            if size < 1:
                raise InvalidValueError(f"a model of {size} {name}", where="Schedule", expected="at least 1")
        return self._plan(layers, self.head_counts(heads, layers))

    def _plan(self, layers: int, heads: tuple[int, ...]) -> Plan:
        tokens = _per_layer(self.token_keep, self.token_untouched, self.spread, layers, "token_keep")
        values = self.value_keep if isinstance(self.value_keep, tuple) else (self.value_keep,) * layers
        if len(values) != layers:
            raise _wrong_depth("value_keep", len(values), layers)
        sink = max(self.sink, int(self.protect_first))
        return Plan(tokens, _are_counts(self.token_keep), heads, values, sink, self.recent)

    def resolve(self, lengths: int | Sequence[int] | Tensor, *, layers: int, heads: int) -> Counts:
        """Return what every layer computes of sequences of `lengths` tokens, at least 1 (0 for an empty sequence).

        Counts are rounded down, which misses a mean by less than one token, and never below the protected tokens, which
        lifts it where these are many of a short sequence: `Counts.token_keep` says what comes out.

        Raises
        ------
        InvalidValueError: as `check`, or a list of counts whose first is less than a length; a length that is no count.
        """
        given = lengths.flatten().tolist() if isinstance(lengths, Tensor) else lengths
        each = list(given) if isinstance(given, Sequence) else [given]
        for length in each:
            _check_number(length, "a length")
        self.check(layers, heads)
        plan = self.plan(layers, heads)
        for length in each:
            plan.check_whole(length)
        return plan.resolve(each)

    def token_counts(self, length: int, layers: int) -> tuple[int, ...]:
        """Return how many of `length` tokens each of `layers` layers computes; rules and errors as for `plan`."""
        return self._plan(layers, ()).token_counts(length)

    def head_counts(self, heads: int, layers: int) -> tuple[int, ...]:
        """Return how many of `heads` heads each of `layers` layers computes.

        The counts never grow. For a mean their sum is `head_keep * heads * layers` rounded to the nearest possible.
        """
        return _head_counts(self.head_keep, self.head_untouched, self.spread, heads, layers)

    def value_ratio(self, layer: int) -> float:
        """Return the share of kept V rows that a query of `layer` multiplies."""
        return self.value_keep[layer] if isinstance(self.value_keep, tuple) else self.value_keep

    def value_count(self, keys: int, layer: int) -> int:
        """Return how many of `keys` V rows a query of `layer` multiplies: rounded down, at least 1 if there are any."""
        return min(keys, max(1, math.floor(self.value_ratio(layer) * keys + ROUNDING)))

    def check(self, layers: int, heads: int) -> None:
        """Raise InvalidValueError where an encoder of these sizes cannot meet the schedule.

        Besides what `plan` refuses its first layer has to compute everything: nothing is known before it. (A generation
        step knows the steps before.)
        """
        plan = self.plan(layers, heads)
        if not plan.absolute:
            _check_first(plan.tokens[0], 1, "token_keep", self.token_keep)
        _check_first(plan.heads[0], heads, "head_keep", self.head_keep)

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
    if not _is_number(value) or not 0 < value <= 1:
        raise InvalidValueError(f"{name} is {value!r}", where="Schedule", expected="a kept share in (0, 1]")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_counts(keep: Keep) -> bool:
    """Whether a list holds counts: one of its numbers is above 1."""
    return isinstance(keep, tuple) and any(value > 1 for value in keep)


def _checked_list(values: Sequence[object], name: str) -> tuple[float, ...]:
    if not values:
        raise InvalidValueError(f"{name} is an empty list", where="Schedule", expected="one number a layer")
    counts = name != "value_keep" and any(_is_number(value) and value > 1 for value in values)
    checked: list[float] = []
    for layer, value in enumerate(values):
        where = f"{name}[{layer}]"
        if not counts:
            _check_ratio(value, where)
        elif not _is_number(value) or value < 1 or value != int(value):
            raise InvalidValueError(
                f"{where} is {value!r} in a list of counts", where="Schedule", expected="a whole number of at least 1"
            )
        assert _is_number(value)
        if checked and value > checked[-1] and name != "value_keep":
            raise InvalidValueError(
                f"{where} is {value}, more than the layer before keeps",
                where="Schedule",
                expected="numbers that do not grow: a pruned token or head does not come back",
            )
        checked.append(int(value) if counts else float(value))
    return tuple(checked)


def _check_first(first: float, whole: int, name: str, keep: Keep) -> None:
    if isinstance(keep, tuple) and first < whole:
        all_of_it = whole if _are_counts(keep) else 1
        raise InvalidValueError(
            f"{name}[0] is {keep[0]}",
            where="Schedule",
            expected=f"{all_of_it}: no importance is known before the first layer",
            hint=f"one number a layer that starts with {all_of_it}: [{all_of_it}, {keep[0]}, ...]",
        )


def _check_share(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidValueError(f"{name} is {value!r}", where="Schedule", expected="a number in [0, 1]")


def _check_bits(value: object, name: str, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= 16:
        raise InvalidValueError(f"{name} is {value!r}", where="Schedule", expected=f"a whole number in [{low}, 16]")


def _check_number(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidValueError(f"{name} is {value!r}", where="Schedule", expected="a whole number of tokens")


def _wrong_depth(name: str, given: int, layers: int) -> InvalidValueError:
    return InvalidValueError(
        f"{name} has {given} ratios for a model of {layers} layers",
        where="Schedule",
        expected=f"{layers} ratios, or one number",
    )


@lru_cache(maxsize=256)
def _per_layer(keep: Keep, untouched: float, spread: float, layers: int, name: str) -> tuple[float, ...]:
    if not isinstance(keep, tuple):
        return tuple(_line(keep, untouched, spread, layers, name))
    if len(keep) != layers:
        raise _wrong_depth(name, len(keep), layers)
    return keep


@lru_cache(maxsize=256)
def _head_counts(keep: Keep, untouched: float, spread: float, heads: int, layers: int) -> tuple[int, ...]:
    kept = _per_layer(keep, untouched, spread, layers, "head_keep")
    if not isinstance(keep, tuple):
        return _rounded([share * heads for share in kept], heads)
    if not _are_counts(keep):
        return tuple(min(heads, max(1, math.floor(share * heads + ROUNDING))) for share in kept)
    if kept[0] > heads:
        raise InvalidValueError(
            f"head_keep[0] is {kept[0]} for a model of {heads} heads", where="Schedule", expected=f"at most {heads}"
        )
    return tuple(int(count) for count in kept)


def _line(keep: float, untouched: float, spread: float, layers: int, name: str) -> list[float]:
    """Return per-layer ratios: 1 for the untouched layers, then a straight line, with the mean `keep`."""
    whole = max(1, math.ceil(untouched * layers - ROUNDING))
    if keep == 1.0:
        return [1.0] * layers
    pruned = layers - whole
    mean = (keep * layers - whole) / pruned if pruned else 0.0
    if mean <= 0:
        raise InvalidValueError(
            f"{name} {keep} cannot be reached: {whole} of {layers} layers are untouched",
            where="Schedule",
            expected=f"more than {whole / layers:.3f}, the smallest possible mean",
            hint="give one ratio a layer, or a smaller untouched share",
        )
    step = spread * min(1.0 - mean, mean)
    position = [2 * i / (pruned - 1) - 1 if pruned > 1 else 0.0 for i in range(pruned)]
    return [1.0] * whole + [mean - step * x for x in position]


def _rounded(ideal: list[float], total: int) -> tuple[int, ...]:
    """Round non-growing `ideal` to counts in [1, total] with the nearest sum; layers that keep everything stay."""
    if total == 0:
        return (0,) * len(ideal)
    counts = [min(total, max(1, math.floor(value + ROUNDING))) for value in ideal]
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
