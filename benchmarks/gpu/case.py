"""A case, what it measures, and the bars that it has to reach."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from errors import Bound, Error
from place import Call, Place, middle
from torch import Tensor

from sparsecore.timing import median_ratio

__all__ = ["Bar", "Case", "Work", "measure"]

BUDGET_S = 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """Ratio that has to be reached to the fastest of the calls whose names begin with `against`, and the one aimed at.

    aim_us: the aim is a time instead. most_error: a result that is further from the exact one reaches nothing.
    """

    against: str
    must: float
    aim: float | None = None
    aim_us: float | None = None
    most_error: float | None = None

    def verdict(self, ratio: float, seconds: float, error: float) -> str:
        """ "aim", "met" or "missed"."""
        if ratio < self.must or (self.most_error is not None and not error <= self.most_error):
            return "missed"
        by_ratio = self.aim is not None and ratio >= self.aim
        by_time = self.aim_us is not None and seconds * 1e6 <= self.aim_us
        return "aim" if by_ratio or by_time else "met"


@dataclass(slots=True)
class Work:
    """Calls of one case on their operands.

    calls: "ours" and what it is compared with, by name. exact: the result in float64 (or fp32), to which errors are
    relative. bound: what our error may be; more is wrong, whatever was left out on purpose. moved: bytes that have to
    be read and written. products: multiplications of kept places, two operations each. dense_products: those of the
    dense form, from which TFLOP/s are counted; 0: none are told. absent: comparisons that this machine cannot run, and
    why. arranged: brings a result into the order of `exact`.
    comparable: whether the others compute the same, so that their errors mean something.
    """

    calls: dict[str, Call]
    exact: Tensor
    bound: Bound
    moved: float
    products: float = 0.0
    dense_products: float = 0.0
    absent: dict[str, str] = field(default_factory=dict)
    arranged: Callable[[Tensor], Tensor] = lambda result: result
    comparable: bool = True

    def compare(self, name: str, make: Callable[[], Call]) -> None:
        """Add a comparison; where it cannot be made or run here, the reason."""
        try:
            call = make()
            call()
        except Exception as error:  # noqa: BLE001 - a peer's failure is a finding, and must not stop the run
            self.absent[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
        else:
            self.calls[name] = call


@dataclass(frozen=True, slots=True)
class Case:
    """group: heading of its table. make: builds the work on a place."""

    group: str
    name: str
    make: Callable[[Place], Work]
    bars: tuple[Bar, ...] = ()

    @property
    def key(self) -> str:
        """Fit for a file name."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.group} {self.name}".lower()).strip("-")

    @property
    def title(self) -> str:
        """As it is printed."""
        return f"{self.group}: {self.name}"

    def called(self, text: str) -> bool:
        """Whether its title or its key contains the text; large and small letters are the same."""
        return text.lower() in self.title.lower() or text.lower() in self.key


def measure(case: Case, place: Place, limits: dict[str, float]) -> dict[str, Any]:
    """Run a case and return what it found; without times where the place has none."""
    with torch.inference_mode(), place.running():
        work = case.make(place)
        checked = work.calls if work.comparable else {"ours": work.calls["ours"]}
        found = {name: Error.of(work.arranged(call()), work.exact, work.bound.by_row) for name, call in checked.items()}
        times = place.interleaved(work.calls, BUDGET_S)
    errors = {name: error.norm for name, error in found.items()}
    result: dict[str, Any] = {"group": case.group, "name": case.name, "errors": errors, "absent": work.absent}
    result["worst"] = {name: error.worst for name, error in found.items()}
    ours = found.pop("ours")
    if broken := work.bound.broken(ours, found.values()):
        result["failed"] = broken
    if not times.seconds:
        return result
    ours_s = times.seconds["ours"]
    result["seconds"] = {name: middle(own) for name, own in times.seconds.items()}
    result["ratios"] = {name: median_ratio(own, ours_s) for name, own in times.seconds.items() if name != "ours"}
    result["exposed"] = {name: count / len(ours_s) for name, count in times.exposed.items() if count}
    seconds = result["seconds"]["ours"][0]
    floor = max(work.moved / limits["copy"], 2 * work.products / limits["dense"])
    result["gb_s"] = work.moved / seconds / 1e9
    result["tflops"] = 2 * work.dense_products / seconds / 1e12
    result |= {"floor_us": floor * 1e6, "of_floor": floor / seconds}
    result["bars"] = [_judged(bar, result["ratios"], seconds, ours.norm) for bar in case.bars]
    return result


def _judged(bar: Bar, ratios: dict[str, float], seconds: float, error: float) -> dict[str, Any]:
    """A bar with its verdict; "not run" where there is nothing to compare with."""
    ratio = min((own for name, own in ratios.items() if name.startswith(bar.against)), default=None)
    verdict = "not run" if ratio is None else bar.verdict(ratio, seconds, error)
    return {**asdict(bar), "ratio": ratio, "verdict": verdict}
