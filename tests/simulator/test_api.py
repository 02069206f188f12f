"""`simulator.run` and `simulator.compare`: sums, scopes, inputs, hosts, and random small workloads."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simulator as sim
from simulator.errors import InvalidValueError, UnknownNameError, UnsupportedError
from simulator.result import Result
from simulator.workload.ir import Workload
from simulator.workload.reader import read_workload
from simulator.workload.request import ReadRequest


def workload(model: str = "bert-base", **request: object) -> Workload:
    return read_workload(model, ReadRequest(**{"seq_len": 40, **request}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pruned() -> Workload:
    return workload(batch=2)


@pytest.fixture(scope="module")
def result(pruned: Workload) -> Result:
    return sim.run(pruned, "spatten")


def test_parts_add_up(result: Result, pruned: Workload) -> None:
    attention = result.scopes["attention"]
    layers = [layer for layer in result.layers if layer.scope == "attention"]
    assert len(layers) == pruned.model.layers
    assert attention.cycles == sum(layer.cycles for layer in layers)
    assert attention.time_s == pytest.approx(attention.cycles / 1e9)
    assert attention.operations == pruned.operations("attention") == sum(layer.operations for layer in layers)
    assert attention.operations_dense == pruned.dense().operations("attention") > attention.operations
    assert attention.energy_pj == pytest.approx(sum(item.energy_pj for item in result.energy.values()))
    assert attention.energy_pj == pytest.approx(sum(layer.energy_pj for layer in layers))
    assert attention.dram_useful_bytes == sum(stream.useful_bytes for stream in result.streams.values())
    assert attention.dram_fetched_bytes == sum(stream.fetched_bytes for stream in result.streams.values())
    assert attention.dram_useful_bytes <= attention.dram_fetched_bytes
    assert all(0 <= unit.busy <= 1 for unit in result.units.values())
    on_units = sum(unit.energy_pj for unit in result.units.values())
    standing = ("sram.leakage", "logic.leakage", "logic.idle_clocks")  # what time costs belongs to no unit
    shared = sum(i.energy_pj for name, i in result.energy.items() if i.group == "dram" or name in standing)
    assert on_units + shared == pytest.approx(attention.energy_pj)


def test_what_is_not_modelled_is_listed_with_its_share(result: Result, pruned: Workload) -> None:
    assert {name: scope.modelled_by for name, scope in result.scopes.items()} == {
        "attention": "design",
        "linear": "not modelled",
        "other": "not modelled",
    }
    left = result.not_modelled
    assert sum(item.count for item in left) == len(pruned.linear) + len(pruned.other)
    total = pruned.operations()
    assert sum(item.operations for item in left) == total - pruned.operations("attention")
    assert sum(item.operations_share for item in left) + result.scopes["attention"].operations_share == pytest.approx(1)
    assert sum(item.bytes_share for item in left) + result.scopes["attention"].bytes_share == pytest.approx(1)
    assert result.scopes["linear"].time_s is None


def test_a_design_that_runs_linear_layers_is_accounted_for_them(pruned: Workload) -> None:
    got = sim.run(pruned, "systolic")
    assert got.scopes["linear"].modelled_by == "design"
    assert got.scopes["linear"].operations == pruned.dense().operations("linear")
    assert got.scopes["linear"].cycles > got.scopes["attention"].cycles > 0
    assert "total" not in got.scopes
    assert any("does not prune" in note for note in got.notes)


def test_a_host_takes_the_rest_and_is_marked_assumed(pruned: Workload) -> None:
    got = sim.run(pruned, "spatten", host="cpu:100,20")
    assert got.scopes["linear"].modelled_by == "host"
    seconds = sum(max(op.operations / 100e9, op.bytes / 20e9) for op in pruned.linear)
    assert got.scopes["linear"].time_s == pytest.approx(seconds)
    assert got.scopes["linear"].cycles is None
    total = got.scopes["total"]
    assert total.time_s == pytest.approx(sum(got.scopes[name].time_s for name in ("attention", "linear", "other")))
    assert total.energy_pj is None  # a roofline gives no energy
    assert not got.not_modelled
    assert [field.kind for field in got.inputs if field.name == "host.cpu"] == ["assumed"]


@pytest.mark.parametrize("host", ["cpu", "cpu:1", "cpu:0,1", "cpu:1,-1", "cpu:a,b", "cpu:1,1,1", "cpu:..,1"])
def test_a_host_that_is_not_understood_is_named(host: str, pruned: Workload) -> None:
    with pytest.raises(InvalidValueError, match="not understood"):
        sim.run(pruned, "spatten", host=host)


def test_strict_lists_what_is_left_out(pruned: Workload) -> None:
    with pytest.raises(UnsupportedError, match="does not model") as caught:
        sim.run(pruned, "spatten", strict=True)
    assert "dense" in str(caught.value)
    sim.run(dataclasses.replace(pruned, linear=(), other=()), "spatten", strict=True)
    sim.run(pruned, "spatten", strict=True, host="cpu:100,20")


def test_every_input_says_how_far_it_can_be_trusted(result: Result) -> None:
    kinds = {field.name: field.kind for field in result.inputs}
    assert kinds["workload.tokens"] == "assumed"
    assert kinds["design.array.multipliers"] == "published"
    assert kinds["design.layout.summarise"] == "assumed"
    assert kinds["energy.dram.activation"] == "published"
    assert all(field.source for field in result.inputs)
    changed = sim.run(workload(seq_len=8), "spatten", set={"array.multipliers": 256})
    field = next(field for field in changed.inputs if field.name == "design.array.multipliers")
    assert (field.value, field.kind, field.source) == (256, "assumed", "--set")


def test_the_same_run_gives_the_same_result(pruned: Workload, result: Result) -> None:
    assert sim.run(pruned, "spatten") == result
    assert Result.from_json(result.to_json()) == result


def test_a_saved_workload_gives_the_same_result(pruned: Workload, result: Result, tmp_path: Path) -> None:
    pruned.save(tmp_path / "w.json")
    assert sim.run(tmp_path / "w.json", "spatten") == result


def test_a_model_is_read_as_the_command_reads_it() -> None:
    assert sim.run("bert-base") == sim.run(read_workload("bert-base"))
    with pytest.raises(UnknownNameError, match="bert-base"):
        sim.run("bert-bas")


def test_comparisons_are_of_equal_scopes(pruned: Workload, result: Result) -> None:
    dense = sim.run(pruned.dense(), "spatten")
    systolic = sim.run(pruned, "systolic")
    against_dense = sim.compare(result, dense)
    assert against_dense.speedup == pytest.approx(dense.time_s / result.time_s) and against_dense.speedup > 1
    assert against_dense.dram_fetched > 1 and against_dense.energy > 1
    assert sim.compare(result, systolic).speedup > 1
    for scope in ("linear", "total", "nothing"):
        with pytest.raises(UnsupportedError, match="cannot be compared"):
            sim.compare(result, systolic, scope)
    with pytest.raises(UnsupportedError, match="different workloads"):
        sim.compare(result, sim.run(workload(seq_len=41, batch=2), "spatten"))


def test_progress_counts_every_op(pruned: Workload) -> None:
    seen: list[tuple[int, int]] = []
    sim.run(pruned, "spatten", progress=lambda done, total: seen.append((done, total)))
    total = len(pruned.attention) + len(pruned.linear) + len(pruned.other)
    assert seen == [(i + 1, total) for i in range(total)]


def test_generation_follows_the_summarisation() -> None:
    w = workload("gpt2", seq_len=30, generate=3)
    got = sim.run(w, "spatten")
    assert got.streams["new_key_value"].useful_bytes > 0
    assert got.scopes["attention"].operations == w.operations("attention")


def test_a_workload_without_ops_costs_nothing(pruned: Workload) -> None:
    got = sim.run(dataclasses.replace(pruned, attention=(), linear=(), other=()), "spatten")
    assert got.scopes["attention"].modelled_by == "none"
    assert got.scopes["attention"].time_s is None
    assert Result.from_json(got.to_json()) == got


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    model=st.sampled_from(["bert-base", "gpt2"]),
    seq_len=st.integers(1, 40),
    batch=st.integers(1, 3),
    generate=st.integers(0, 2),
    schedule=st.sampled_from(["none", None]),
    arch=st.sampled_from(["spatten", "spatten-eighth", "systolic"]),
)
def test_random_small_workloads(
    model: str, seq_len: int, batch: int, generate: int, schedule: str | None, arch: str
) -> None:
    generate = generate if model == "gpt2" else 0
    w = workload(model, seq_len=seq_len, batch=batch, generate=generate, schedule=schedule)
    got = sim.run(w, arch)
    attention = got.scopes["attention"]
    assert attention.cycles > 0 and attention.energy_pj > 0
    assert attention.operations <= 2048 * attention.cycles
    assert attention.dram_useful_bytes <= attention.dram_fetched_bytes
    assert attention.dram_fetched_bytes / attention.time_s <= 512e9
    assert Result.from_json(got.to_json()) == got
    dense, again = (sim.run(w.dense(), arch) for _ in range(2))
    assert dense == again
    assert dense.scopes["attention"].dram_useful_bytes >= attention.dram_useful_bytes


def test_importing_the_simulator_is_light_and_needs_no_torch() -> None:
    code = (
        "import sys, simulator; assert 'numpy' not in sys.modules and 'pydantic' not in sys.modules\n"
        "from simulator.api import run; import simulator._sim\n"
        "assert 'torch' not in sys.modules and 'sparsecore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_value_of_the_memory_is_an_input_with_its_source() -> None:
    result = sim.run("bert-base", set={"dram.channels": 8})
    values = {field.name: field for field in result.inputs if field.name.startswith("memory.")}
    assert values["memory.timing.tCL"].value == "14 ns"
    assert values["memory.timing.tCL"].kind == "published"
    assert values["memory.controller.read_queue"].kind == "assumed"
    assert values["memory.organisation.channels"].value == "8"
    assert values["memory.admission.run_ahead"].value == "1024"
    assert all(field.source for field in values.values())
    ideal = sim.run("bert-base", set={"dram.standard": "ideal", "dram.channels": None})
    assert [field.name for field in ideal.inputs if field.name.startswith("memory")] == ["memory"]
