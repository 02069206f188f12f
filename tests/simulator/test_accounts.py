"""What every unit did: the four kinds of cycles add up, and the bottleneck is the one that was built in."""

from __future__ import annotations

import random
from typing import Any

import pytest
from attention_ops import attention, cost, design, random_op

import simulator as sim
from simulator.engine.accounting import bottleneck
from simulator.engine.interface import Cost
from simulator.errors import ConfigError, UnknownNameError
from simulator.memory import load_memory
from simulator.workload.ir import AttentionOp, LinearOp
from simulator.workload.reader import read_workload
from simulator.workload.request import ReadRequest

UNITS = {"fetcher", "qk", "softmax", "decision", "topk_value", "pv", "topk", "writer"}


def slowest(op: AttentionOp, **changes: Any) -> str | None:
    return bottleneck({name: unit.busy for name, unit in cost(op, **changes).unit_cycles().items()})


@pytest.mark.parametrize("arch", ["spatten", "spatten-eighth", "systolic"])
@pytest.mark.parametrize("memory", ["hbm2", "ideal"])
def test_accounts_of_random_ops_add_up(arch: str, memory: str, seed: int) -> None:
    rng = random.Random(seed)
    machine = design(arch, dram__standard=memory)
    for _ in range(20):
        op = random_op(rng)
        result = machine.cost(op if machine.prunes else op.dense(len(op.heads), op.kv_heads), None, rng.randrange(9999))
        units = result.unit_cycles()
        if arch != "systolic":
            assert units.keys() == UNITS
        for name, unit in units.items():
            assert unit.total == result.cycles, name
            assert min(unit.busy, unit.starved, unit.blocked, unit.idle) >= 0, name
            assert unit.busy == result.busy_cycles[name]


def test_a_unit_without_work_is_idle() -> None:
    units = cost(attention(64)).units
    for name in ("topk_value", "topk"):
        assert units[name].idle == cost(attention(64)).cycles
    assert units["qk"].starved > 0  # before the first data
    assert units["qk"].idle > 0  # while prob x V finishes


def test_what_blocks_whom() -> None:
    op = attention(256, 1, heads=8, values=(64,) * 8, local_values=64)
    slow = cost(op, topk__parallelism=1, pipeline__undecided=1).units
    assert slow["decision"].blocked > 0  # the engine has room for one query in front of it
    assert slow["qk"].blocked > 0  # no entry of the request FIFO
    narrow = cost(attention(64, heads=4), array__multipliers=64, softmax__parallelism=8).units
    assert narrow["qk"].blocked == 0 < narrow["softmax"].starved
    held = cost(attention(384, heads=8)).units["fetcher"]
    assert held.blocked > 0  # 48 lines of 256: the sixth head waits


def test_the_bottleneck_is_the_unit_that_was_made_slow() -> None:
    summarise = attention(128, heads=8)
    assert slowest(summarise, array__multipliers=64, array__minimum_lanes=64) == "qk"
    assert slowest(summarise, softmax__parallelism=1) == "softmax"
    assert slowest(summarise, dram__standard="ideal", dram__ideal_bytes_per_cycle=1) == "dram"
    assert slowest(attention(1024, 1, heads=8)) == "dram"
    assert slowest(attention(1024, 1, heads=8), dram__channels=2) == "dram"
    select = attention(512, 1, heads=8, values=(128,) * 8, local_values=128)
    assert slowest(select, topk__parallelism=1) == "topk_value"
    # With every second query computed again Q x K works more than prob x V.
    again = attention(128, heads=8, lsb_queries=(64,) * 8)
    assert slowest(again) == "qk"


def test_equal_units_name_the_first_of_the_pipeline() -> None:
    assert bottleneck({"fetcher": 5, "qk": 9, "softmax": 9, "pv": 9, "writer": 99}) == "qk"
    assert bottleneck({"fetcher": 9, "qk": 0}) == "dram"
    assert bottleneck({"qk": 0}) is None
    assert bottleneck({}) is None


def test_a_cost_with_busy_cycles_alone_starves_for_the_rest() -> None:
    units = Cost(10, busy_cycles={"a": 4}).unit_cycles()
    assert (units["a"].busy, units["a"].starved, units["a"].total) == (4, 6, 10)


def test_a_result_adds_them_up_over_all_ops() -> None:
    workload = read_workload("bert-base", ReadRequest(seq_len=32, batch=2))
    result = sim.run(workload, "spatten")
    total = result.cycles
    assert result.units.keys() == UNITS
    for unit in result.units.values():
        rest = (unit.starved_cycles, unit.blocked_cycles, unit.idle_cycles)
        assert None not in rest
        assert unit.busy_cycles + sum(rest) == total
    for layer in result.layers:
        assert (layer.bottleneck in {"qk", "dram"}) == (layer.scope == "attention")


def test_units_of_ops_of_two_kinds_add_up_as_well() -> None:
    workload = read_workload("bert-base", ReadRequest(seq_len=32))
    result = sim.run(workload, "systolic")
    total = sum(scope.cycles or 0 for scope in result.scopes.values())
    for name, unit in result.units.items():
        rest = (unit.starved_cycles, unit.blocked_cycles, unit.idle_cycles)
        assert unit.busy_cycles + sum(rest) == total, name
    assert result.units["softmax"].idle_cycles > 0  # linear layers do not use it
    assert {layer.bottleneck for layer in result.layers if layer.scope == "linear"} <= {"array", "dram"}
    assert isinstance(workload.linear[0], LinearOp)


def test_the_ideal_memory_is_chosen_by_name_or_by_settings() -> None:
    workload = read_workload("bert-base", ReadRequest(seq_len=32))
    named = sim.run(workload, "spatten", memory="ideal")
    numbers = {"dram.standard": "ideal", "dram.ideal_latency": 100, "dram.ideal_bytes_per_cycle": 512}
    given = sim.run(workload, "spatten", set=numbers)
    assert named.cycles == given.cycles
    assert named.peak_gbps == 512
    assert not [item for item in named.energy.values() if item.group == "dram"]  # nothing is known about it
    slow = sim.run(workload, "spatten", set={**numbers, "dram.ideal_latency": 5000})
    assert slow.cycles > named.cycles + 12 * 2 * 4900  # K, then the outputs of the last head, in each layer
    assert sim.run(workload, "systolic", memory="ideal").cycles


def test_numbers_of_the_ideal_memory_are_refused_with_another() -> None:
    with pytest.raises(ConfigError, match="no effect on the memory 'hbm2'"):
        design(dram__ideal_latency=3)
    with pytest.raises(UnknownNameError) as caught:
        load_memory("ideal")
    assert "--arch" in caught.value.hint
