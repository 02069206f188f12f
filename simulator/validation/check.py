"""Evaluating targets: rows with their verdicts, and what a calibrated constant moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from simulator.errors import UnknownNameError, nearest
from simulator.validation import area, attention_chips, definitions, dense, hash_and_mask, power, ranges, speed
from simulator.validation.bench import Bench
from simulator.validation.measured import MEASURES, Measured, Part, arguments
from simulator.validation.targets import Class, Target, Topic

__all__ = ["PERTURBATION", "Moved", "Row", "Validation", "validate_targets"]

# Importing them fills MEASURES.
_REGISTERED = (area, attention_chips, definitions, dense, hash_and_mask, power, ranges, speed)
PERTURBATION = 0.1
Verdict = Literal["pass", "known miss", "MISS", "shown", "inside", "outside"]


@dataclass(frozen=True, slots=True)
class Row:
    """One target and ours.

    Parameters
    ----------
    published, unit, source, tolerance, operations, assumptions, known_miss: of the target ("" where it has none).
    low, high: ours: equal, or an interval. error: ours / published - 1; None for an interval.
    constants: calibrated constants that ours is computed with. note, parts: what is printed beside it.
    verdict: "pass", "known miss" or "MISS" of a counted row; otherwise "shown" of a calibration, and whether the
        published value is "inside" or "outside" the interval.
    """

    name: str
    topic: str
    what: str
    class_: Class
    published: float
    unit: str
    source: str
    low: float
    high: float
    error: float | None
    tolerance: str
    verdict: Verdict
    counted: bool
    operations: str = ""
    assumptions: str = ""
    known_miss: str = ""
    note: str = ""
    parts: tuple[Part, ...] = ()
    constants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """A row before and after a calibrated constant was multiplied by `factor`."""

    constant: str
    factor: float
    row: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Validation:
    """All rows, and with --perturb what moved; `titles` are those of the topics."""

    rows: tuple[Row, ...]
    titles: dict[str, str]
    moved: tuple[Moved, ...] = ()

    @property
    def failed(self) -> tuple[Row, ...]:
        """Counted rows outside their tolerance and not listed as known misses."""
        return tuple(row for row in self.rows if row.verdict == "MISS")


def validate_targets(
    topics: Sequence[Topic],
    only: Sequence[str] = (),
    perturb: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Validation:
    """Compute every row of the topics, or those named.

    Parameters
    ----------
    only: names of targets or topics. perturb: also move each calibrated constant by 10 % and say which rows move.
    progress: called with rows done and rows in all.

    Raises
    ------
    UnknownNameError: a name of `only` is neither. ConfigError: a target whose measure or parameters do not exist.
    """
    ready = {target.name: (target, topic, arguments(target, topic)) for topic in topics for target in topic.targets}
    chosen = _chosen(topics, only)
    bench = Bench({name: _constant(*item) for name, item in ready.items() if item[0].class_ == "calibration"})
    rows: list[Row] = []
    for name in chosen:
        rows.append(_row(*ready[name], bench))
        if progress is not None:
            progress(len(rows), len(chosen))
    moved = tuple(_moved(rows, ready, bench)) if perturb else ()
    return Validation(tuple(rows), {topic.name: topic.title for topic in topics}, moved)


_Ready = tuple[Target, Topic, dict[str, object]]


def _chosen(topics: Sequence[Topic], only: Sequence[str]) -> list[str]:
    names = {topic.name: [target.name for target in topic.targets] for topic in topics}
    every = [name for group in names.values() for name in group]
    for name in only:
        if name not in every and name not in names:
            raise UnknownNameError(f"no target named {name!r}", where="--only", hint=nearest(name, [*every, *names]))
    wanted = {target for name in only for target in names.get(name, [name])}
    return [name for name in every if not only or name in wanted]


def _constant(target: Target, _: Topic, given: dict[str, object]) -> Callable[[Bench], float]:
    """Return how the constant of a calibration follows: published / ours, both without what is not scaled."""

    def value(bench: Bench) -> float:
        ours = MEASURES[target.measure](bench, **given)
        return (target.value - ours.fixed) / (ours.low - ours.fixed)

    return value


def _row(target: Target, topic: Topic, given: dict[str, object], bench: Bench) -> Row:
    bench.constants_read.clear()
    ours = MEASURES[target.measure](bench, **given)
    read = tuple(sorted(bench.constants_read))
    single = ours.low == ours.high
    parts = ours.parts
    if target.class_ == "calibration":
        value = bench.constant(target.name)
        parts = (*parts, Part.of("constant", value, "x"))
    return Row(
        name=target.name,
        topic=topic.name,
        what=target.what,
        class_=target.class_,
        published=target.value,
        unit=target.unit,
        source=target.source,
        low=ours.low,
        high=ours.high,
        error=ours.low / target.value - 1 if single and target.value else None,
        tolerance=str(target.tolerance or ""),
        verdict=_verdict(target, ours),
        counted=target.counted,
        operations=target.operations or "",
        assumptions=target.assumptions,
        known_miss=target.known_miss,
        note=ours.note,
        parts=parts,
        constants=read,
    )


def _verdict(target: Target, ours: Measured) -> Verdict:
    if target.tolerance is not None:
        if target.tolerance.holds(ours.low, target.value):
            return "pass"
        return "known miss" if target.known_miss else "MISS"
    if target.class_ == "calibration":
        return "shown"
    return "inside" if ours.low <= target.value <= ours.high else "outside"


def _moved(rows: Iterable[Row], ready: dict[str, _Ready], bench: Bench) -> Iterable[Moved]:
    """Compute again, for each constant, the rows that are computed with it; all others cannot move."""
    for row in rows:
        for name in row.constants:
            moved = bench.with_moved({name: 1 + PERTURBATION})
            target, _, given = ready[row.name]
            after = MEASURES[target.measure](moved, **given)
            for before, now in ((row.low, after.low), (row.high, after.high)):
                if before != now:
                    yield Moved(name, 1 + PERTURBATION, row.name, before, now)
                    break
