"""Measures of area, by the modules of the paper's Fig. 13."""

from __future__ import annotations

from math import fsum
from typing import Literal

from simulator.designs.registry import make
from simulator.validation.bench import Bench
from simulator.validation.measured import Measured, Part, measure

__all__ = ["MODULES"]

Module = Literal["qk", "pv", "softmax", "topk", "fetcher"]
# Parts of a design by module; the SRAM of K and V stands apart, as CACTI's area needs no constant.
MODULES: dict[Module, tuple[str, ...]] = {
    "qk": ("qk",),
    "pv": ("pv",),
    "softmax": ("softmax", "importance"),
    "topk": ("topk",),
    "fetcher": ("fetcher",),
}
SRAM: dict[Module, str] = {"qk": "key.sram", "pv": "value.sram"}


def _areas(design: str) -> dict[str, float]:
    return {area.component: area.mm2 for area in make(design)[0].areas()}


def _logic(design: str, module: Module) -> float:
    return fsum(mm2 for name, mm2 in _areas(design).items() if name.partition(".")[0] in MODULES[module])


@measure
def module_mm2(_: Bench, design: str, module: Module) -> Measured:
    """A module's area; its constant leaves the SRAM in it alone."""
    sram = _areas(design)[SRAM[module]] if module in SRAM else 0.0
    logic = _logic(design, module)
    parts = (Part.of("of it SRAM, not scaled", sram),) if sram else ()
    return Measured(logic + sram, logic + sram, parts=parts, fixed=sram)


@measure
def scaled_design_mm2(bench: Bench, design: str) -> Measured:
    """Area of a design of another size: modules with the constants calibrated on the full size, SRAM as it is."""
    areas = _areas(design)
    parts = [Part.of(module, bench.constant(f"area-{module}") * _logic(design, module)) for module in MODULES]
    parts.append(Part.of("SRAM", fsum(areas[name] for name in SRAM.values())))
    total = fsum(part.low for part in parts)
    parts.append(Part.of("before calibration", fsum(areas.values())))
    return Measured.of(total, "what Fig. 13 calls Others left out", tuple(parts))
