"""Whether the order of two designs is sure: which published constant, inside its interval, would turn it.

The energy of a design is a sum of components, each proportional to a constant with a published interval. A component of
the same name and source is the same constant on both designs, and moves on both together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from simulator.comparison.work import same_work
from simulator.result import Result

__all__ = ["Order", "Turn", "interval", "orders"]

Constant = tuple[str, str]  # the component and the source of its constant
MODELS = "closed forms instead of the event engine"


@dataclass(frozen=True, slots=True)
class Turn:
    """What would turn an order.

    Parameters
    ----------
    constants: one component of the energy that is enough by itself, or several that are only together; for times, what
        was changed instead. sources: of the constants.
    at: of one constant, the multiple of its value at which both designs take the same. low, high: its interval, in
        multiples of its value.
    """

    constants: tuple[str, ...]
    sources: tuple[str, ...]
    at: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """`better` takes less than `worse`: `factor` times less, and at least `least` times wherever the constants are.

    The order is sure unless something `turns` it; `least` is then below 1. It is None for times: they depend on no
    constant that has an interval.
    """

    quantity: Literal["energy", "time"]
    better: str
    worse: str
    factor: float
    least: float | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """Energy of a component in pJ, with what its constant makes of it at both ends of the interval."""

    pj: float = 0.0
    low: float = 0.0
    high: float = 0.0


def orders(results: Sequence[Result], scope: str = "attention") -> tuple[Order, ...]:
    """Return the order of every two results in a scope, energies first, and what would turn it.

    Results that did not start from the same work are not held against each other.
    """
    pairs = [pair for pair in combinations(results, 2) if same_work(*pair, scope)]
    found = [_of_energy(*pair, scope) for pair in pairs] + [_of_time(*pair, scope) for pair in pairs]
    return tuple(order for order in found if order is not None)


def interval(result: Result, scope: str) -> tuple[float | None, float | None]:
    """Return the energy of a scope with all constants at the low and at the high ends of their intervals, in pJ."""
    held = result.scopes.get(scope)
    if held is None or held.energy_pj is None or not result.energy:
        return None, None
    parts = _parts(result, scope).values()
    return sum(part.low for part in parts), sum(part.high for part in parts)


def _parts(result: Result, scope: str) -> dict[Constant, _Part]:
    parts: dict[Constant, _Part] = {}
    for name, item in result.energy.items():
        whole = not item.by_scope or scope == "total"
        pj = item.energy_pj if whole else item.by_scope.get(scope, 0.0)
        share = pj / item.energy_pj if item.energy_pj else 0.0
        low = item.energy_pj if item.low_pj is None else item.low_pj
        high = item.energy_pj if item.high_pj is None else item.high_pj
        parts[name, item.source] = _Part(pj, low * share, high * share)
    return parts


def _of_energy(one: Result, other: Result, scope: str) -> Order | None:
    if one.scopes[scope].energy_pj is None or other.scopes[scope].energy_pj is None:
        return None
    sides = [(sum(part.pj for part in parts.values()), parts) for parts in (_parts(one, scope), _parts(other, scope))]
    (first, ours), (second, theirs) = sides
    if not first or not second or first == second:
        return None
    better, worse = one, other
    if first > second:
        better, worse, ours, theirs = other, one, theirs, ours
    ends = {constant: _closest(constant, ours, theirs) for constant in {**ours, **theirs}}
    least = _least(ours, theirs, max(first, second) / min(first, second))
    gap = abs(second - first)
    moves = {c: their - our - _gap(c, ours, theirs) for c, (our, their) in ends.items()}
    turns = [_alone(c, ours, theirs, gap) for c, move in moves.items() if gap + move <= 0 > move]
    return Order(
        "energy",
        better.design,
        worse.design,
        max(first, second) / min(first, second),
        least,
        tuple(turns) if turns or least >= 1 else (_together(moves, gap),),
    )


def _gap(constant: Constant, ours: Mapping[Constant, _Part], theirs: Mapping[Constant, _Part]) -> float:
    return theirs.get(constant, _Part()).pj - ours.get(constant, _Part()).pj


def _closest(
    constant: Constant, ours: Mapping[Constant, _Part], theirs: Mapping[Constant, _Part], factor: float = 1.0
) -> tuple[float, float]:
    """Return the energies of both designs at the value of the constant at which theirs - `factor` * ours is least."""
    our, their = ours.get(constant, _Part()), theirs.get(constant, _Part())
    ends = ((our.pj, their.pj), (our.low, their.low), (our.high, their.high))
    return min(ends, key=lambda end: end[1] - factor * end[0])


def _least(ours: Mapping[Constant, _Part], theirs: Mapping[Constant, _Part], factor: float) -> float:
    """Return the least ratio of theirs over ours inside all intervals, starting from any ratio that occurs.

    Dinkelbach's method (Management Science 13(7), 1967): the least of theirs - factor * ours gives a smaller ratio,
    until there is none.
    """
    while True:
        ends = [_closest(constant, ours, theirs, factor) for constant in {**ours, **theirs}]
        smaller = sum(their for _, their in ends) / sum(our for our, _ in ends)
        if smaller >= factor * (1 - 1e-12):
            return factor
        factor = smaller


def _alone(constant: Constant, ours: Mapping[Constant, _Part], theirs: Mapping[Constant, _Part], gap: float) -> Turn:
    """The constant that is enough: at `at` times its value the gap is 0, as it is linear in it."""
    parts = [side[constant] for side in (ours, theirs) if constant in side and side[constant].pj]
    low, high = min(part.low / part.pj for part in parts), max(part.high / part.pj for part in parts)
    return Turn((constant[0],), (constant[1],), 1 - gap / _gap(constant, ours, theirs), low, high)


def _together(moves: Mapping[Constant, float], gap: float) -> Turn:
    """The fewest constants that close the gap together, the one that moves it most first."""
    needed: list[Constant] = []
    for constant, move in sorted(moves.items(), key=lambda item: item[1]):
        if gap > 0 > move:
            gap += move
            needed.append(constant)
    names, sources = (tuple(dict.fromkeys(parts)) for parts in zip(*needed, strict=True))
    return Turn(names, sources)


def _of_time(one: Result, other: Result, scope: str) -> Order | None:
    """A closed form gives times as well, and may see another order."""
    ours, theirs = one.scopes[scope], other.scopes[scope]
    if not ours.time_s or not theirs.time_s or ours.time_s == theirs.time_s:
        return None
    faster = ours.time_s < theirs.time_s
    names = (one.design, other.design) if faster else (other.design, one.design)
    turns: tuple[Turn, ...] = ()
    closed = ours.analytical_s, theirs.analytical_s
    if closed[0] is not None and closed[1] is not None and closed[0] != closed[1]:
        turns = () if faster == (closed[0] < closed[1]) else (Turn((MODELS,), ()),)
    factor = max(ours.time_s, theirs.time_s) / min(ours.time_s, theirs.time_s)
    return Order("time", *names, factor, None, turns)
