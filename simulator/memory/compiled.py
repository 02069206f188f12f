"""The compiled timing model: importing it, and what its classes are made with."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from simulator.errors import MissingDependencyError
from simulator.memory.spec import MemorySpec

__all__ = ["compiled", "configuration"]


def compiled() -> ModuleType:
    """Return simulator._sim.

    Raises
    ------
    MissingDependencyError: it is not built.
    """
    try:
        from simulator import _sim
    except ImportError as error:
        raise MissingDependencyError(
            f"the compiled module simulator._sim cannot be imported: {error}",
            expected="the package installed with its extension",
            hint="pip install . (or make dev-inplace in a source tree)",
        ) from error
    return _sim


def configuration(spec: MemorySpec, admission: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return the arguments of _sim.Dram and _sim.Replay for `spec`; `admission` replaces some of its numbers."""
    return {
        "organisation": spec.organisation_numbers,
        "timing": spec.timing_ticks,
        "controller": spec.controller_numbers,
        "admission": spec.admission_numbers | dict(admission or {}),
        "address_map": spec.sliced_map(),
    }
