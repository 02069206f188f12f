"""Every shipped design runs a built-in model, at every fidelity that it has."""

from __future__ import annotations

import pytest

import simulator
from simulator.designs.registry import design_names, make
from simulator.workload.reader import read_workload
from simulator.workload.request import ReadRequest

SHIPPED = tuple(name for name in design_names() if name not in ("cpu", "cpu-roofline", "gpu"))  # those measure


@pytest.mark.parametrize("arch", SHIPPED)
def test_design_runs_a_built_in_model(arch: str) -> None:
    workload = read_workload("bert-base", ReadRequest(seq_len=8, schedule="none"))
    for fidelity in make(arch)[0].fidelities:
        if fidelity == "authors":
            continue  # compared with the authors' program elsewhere
        result = simulator.run(workload, arch, fidelity=fidelity)
        scope = result.scopes["attention"]
        assert scope.time_s
        assert scope.time_s > 0
        assert scope.operations_dense == workload.operations("attention")


def test_only_areas_that_are_added_up_say_what_they_leave_out() -> None:
    workload = read_workload("bert-base", ReadRequest(seq_len=8))
    for arch, added_up in (("spatten", True), ("systolic", True), ("a3", False), ("elsa", False), ("sanger", False)):
        result = simulator.run(workload, arch, fidelity="analytical")
        assert result.area
        assert any("clock tree" in note for note in result.notes) == added_up
