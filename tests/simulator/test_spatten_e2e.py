"""SpAtten-e2e: linear layers on the multipliers of the attention."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simulator
from simulator.designs.registry import make
from simulator.engine.interface import Cost, Design
from simulator.errors import UnsupportedError
from simulator.workload import Workload
from simulator.workload.ir import LinearOp
from simulator.workload.reader import read_workload


def linear(tokens: int, inner: int, outputs: int, density: float = 1.0) -> LinearOp:
    pattern = "dense" if density == 1 else "unstructured"
    return LinearOp(0, "fc", 0, "generate", 0, tokens, inner, outputs, pattern, density, 32, {})


@pytest.fixture(scope="module")
def layers() -> Workload:
    """The linear layers of GPT-2-medium for 32 generated tokens, without the head over the vocabulary."""
    workload = read_workload("gpt2-medium@wikitext2")
    inside = tuple(op for op in workload.linear if op.layer is not None)
    return dataclasses.replace(workload, attention=(), other=(), linear=inside)


def test_the_operations_are_those_of_the_paper(layers: Workload) -> None:
    """24 x 12 x 1024^2 multiply-adds a token: 19.33 GFLOP for 32 tokens (Table IV: 19.3)."""
    assert layers.operations("linear") == 2 * 24 * 12 * 1024**2 * 32
    assert layers.operations("linear") / 1e9 == pytest.approx(19.33, abs=0.01)


@pytest.mark.parametrize("fidelity", ["event", "analytical"])
def test_generation_is_bound_by_the_weights_stored_width(layers: Workload, fidelity: str) -> None:
    eight, twelve = (
        simulator.run(layers, arch, fidelity=fidelity)  # type: ignore[arg-type]
        for arch in ("spatten-e2e", "spatten-e2e-12bit")
    )
    times = [result.scopes["linear"].time_s for result in (eight, twelve)]
    assert times[1] / times[0] == pytest.approx(1.5, rel=0.01)  # type: ignore[operator]
    assert eight.streams["weight"].useful_bytes == 24 * 12 * 1024**2 * 32
    assert twelve.streams["weight"].useful_bytes == 1.5 * eight.streams["weight"].useful_bytes
    assert eight.units["fetcher"].busy > 0.98 > 0.5 > eight.units["qk"].busy == eight.units["pv"].busy
    assert eight.streams["weight"].share_of_peak < 1


def test_cycles_by_hand() -> None:
    """[5 x 100] x [100 x 33]: 2 words of 64 inputs, 3 of 16 outputs (8 of each array), 5 tokens: 30 cycles."""
    design = make("spatten-e2e")[0]
    cost = design.cost(linear(5, 100, 33), None, 0)
    assert cost.busy_cycles["qk"] == cost.busy_cycles["pv"] == 5 * 2 * 3
    assert {name: moved.useful_bytes for name, moved in cost.traffic.items()} == {
        "weight": 3300,
        "activation": 5 * 150,
        "linear_output": 5 * 50,
    }
    assert cost.events["qk_macs"] + cost.events["pv_macs"] == 5 * 3300
    assert cost.cycles == 30 + 8  # the work, and the latency of a score


def test_many_tokens_read_the_weights_once_a_block() -> None:
    """Inputs of 1024 x 12 bit: 128 tokens fit in 192 KiB. The arrays, not the DRAM, take the time."""
    design = make("spatten-e2e")[0]
    one, two = (design.cost(linear(tokens, 1024, 1024), None, 0) for tokens in (128, 129))
    assert one.traffic["weight"].useful_bytes == 1024**2
    assert two.traffic["weight"].useful_bytes == 2 * 1024**2
    assert one.cycles == 128 * 16 * 64 + 8


def test_attention_is_that_of_spatten() -> None:
    workload = read_workload("bert-base").only("summarise")
    workload = dataclasses.replace(workload, attention=workload.attention[:2], other=(), linear=workload.linear[:3])
    both, alone = simulator.run(workload, "spatten-e2e"), simulator.run(workload, "spatten")
    assert both.scopes["attention"] == alone.scopes["attention"]
    assert both.scopes["linear"].modelled_by == "design" and "total" in both.scopes
    assert alone.scopes["linear"].modelled_by == "not modelled"
    total = both.scopes["total"].energy_pj
    assert total == pytest.approx(both.energy_pj)


def test_what_is_assumed_and_refused() -> None:
    design = make("spatten-e2e")[0]
    assert design.inputs(linear(1, 8, 8, 0.5))["pattern of weights"][0] == "dense" and not design.inputs(
        linear(1, 8, 8)
    )
    design.use("authors")
    with pytest.raises(UnsupportedError, match="no linear layers"):
        design.cost(linear(1, 8, 8), None, 0)
    assert make("spatten-e2e")[0].cost(linear(0, 8, 8), None, 0) == Cost(0)


@lru_cache
def stored(bits: int) -> Design:
    return make("spatten-e2e", {"linear.weight_bits": bits})[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([8, 12]))
def test_more_work_never_costs_less(tokens: int, inner: int, outputs: int, bits: int) -> None:
    design = stored(bits)

    def facts(op: LinearOp) -> list[float]:
        cost = design.estimate(op, None, "analytical")
        assert cost.cycles > 0 and all(energy.pj >= 0 for energy in design.energy(cost).values())
        assert all(
            unit.total == cost.cycles and min(unit.busy, unit.starved) >= 0 for unit in cost.unit_cycles().values()
        )
        energies = design.on_chip_energy(cost)
        useful = sum(moved.useful_bytes for moved in cost.traffic.values())
        return [cost.events["qk_macs"], useful, *(energies[name].pj for name in ("logic.qk", "logic.pv", "sram.key"))]

    before = facts(linear(tokens, inner, outputs))
    for more in (
        linear(tokens + 1, inner, outputs),
        linear(tokens, inner + 1, outputs),
        linear(tokens, inner, outputs + 1),
    ):
        assert all(new >= old for old, new in zip(before, facts(more), strict=True))
