"""What the measures share: workloads and runs made once, and calibrated constants that remember who read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator import api
from simulator.errors import UnknownNameError, nearest
from simulator.result import Result
from simulator.validation import cases
from simulator.workload.ir import Workload

__all__ = ["Bench"]


@dataclass(slots=True)
class _Made:
    """What never depends on a calibrated constant."""

    cases: dict[str, Workload] = field(default_factory=dict)
    runs: dict[tuple[str, str, str], Result] = field(default_factory=dict)


class Bench:
    """Runs of designs on named cases, each made once.

    Parameters
    ----------
    constants: how each calibrated constant follows from a published value and a run, by the name of its target. None of
        them is part of a design: they carry what bottom-up energies and areas leave out from one size to another.
    moved: factors on calibrated constants, for --perturb.
    """

    def __init__(
        self,
        constants: Mapping[str, Callable[[Bench], float]],
        moved: Mapping[str, float] | None = None,
    ) -> None:
        self._constants, self._moved = constants, dict(moved or {})
        self._made = _Made()
        self.constants_read: set[str] = set()

    def with_moved(self, moved: Mapping[str, float]) -> Bench:
        """Return a bench with some constants moved; runs are shared, as no constant is part of a design."""
        other = Bench(self._constants, moved)
        other._made = self._made
        return other

    def case(self, name: str) -> Workload:
        """Return the workload of a case of `simulator.validation.cases`."""
        if name not in self._made.cases:
            self._made.cases[name] = cases.make(name)
        return self._made.cases[name]

    def run(self, case: str | Workload, design: str, settings: Mapping[str, Any] | None = None) -> Result:
        """Return the result of a design on a case, or on a workload whose name says all about it."""
        name = case if isinstance(case, str) else case.name
        key = (name, design, json.dumps(dict(settings or {}), sort_keys=True))
        if key not in self._made.runs:
            workload = self.case(case) if isinstance(case, str) else case
            self._made.runs[key] = api.run(workload, design, set=settings)
        return self._made.runs[key]

    def constant(self, name: str) -> float:
        """Return a calibrated constant, moved if --perturb moves it, and note that it was read.

        Raises
        ------
        UnknownNameError: no target of the class calibration has this name.
        """
        if name not in self._constants:
            raise UnknownNameError(f"no calibrated constant {name!r}", hint=nearest(name, self._constants))
        self.constants_read.add(name)
        return self._constants[name](self) * self._moved.get(name, 1.0)
