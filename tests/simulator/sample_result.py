"""A result of the right form for the tests of what reads results; its numbers are arbitrary."""

from __future__ import annotations

import dataclasses

from simulator.result import (
    EnergyItem,
    InputField,
    LayerResult,
    Result,
    ScopeResult,
    StreamResult,
    UnitResult,
    UnmodelledItem,
)
from simulator.workload import ModelInfo

MODEL = ModelInfo("bert", 2, 4, 4, 8, 32, 64, 100, 12345, "f32")


def make_result(**changes: object) -> Result:
    """A result of the right form; its numbers are arbitrary."""
    scopes = {
        "attention": ScopeResult("design", 2000, 2e-6, 40_000, 90_000, 5_000, 6_400, 1.5e6, 0.4, 0.3),
        "linear": ScopeResult("not modelled", None, None, 55_000, 90_000, 0, 0, None, 0.55, 0.6),
        "other": ScopeResult("not modelled", None, None, 5_000, 9_000, 0, 0, None, 0.05, 0.1),
    }
    layers = tuple(
        LayerResult(i, "attention", 1000, 1e-6, 10.0 - 4 * i, 4.0 - i, 10.0, 20_000, 2_500, 3_200, 7.5e5)
        for i in range(2)
    )
    base = Result(
        design="spatten",
        design_description="a design for tests",
        parameters={"dram": {"channels": 16}, "topk": {"parallelism": 16}},
        workload="small",
        model=MODEL,
        schedule="half",
        seed=0,
        clock_ghz=1.0,
        fidelity="event",
        scopes=scopes,
        layers=layers,
        units={"qk": UnitResult(800, 0.4, 30_000, 3e5), "pv": UnitResult(500, 0.25, 10_000, 1e5)},
        streams={"K high bits": StreamResult(3_000, 4_000, 125, 9, 0.8, 2.0, 0.004, False)},
        energy={
            "dram activate": EnergyItem(5e5, "dram", "a paper", "published"),
            "multipliers": EnergyItem(1e6, "logic", "a table", "assumed"),
        },
        not_modelled=(UnmodelledItem("query", "runs attention only", 2, 55_000, 9_000, 0.55, 0.6),),
        inputs=(
            InputField("tokens", "by schedule half", "assumed", "half"),
            InputField("sizes", 2, "measured", "file"),
        ),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]
