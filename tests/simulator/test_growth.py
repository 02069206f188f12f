"""What holds for every op: nothing is negative, and more tokens, heads or bits never cost less work."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache

import pytest
from attention_ops import attention
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.designs.registry import make
from simulator.engine.interface import Cost, Design
from simulator.workload.ir import AttentionOp

# What operations cost, where SpAtten spends it. Top-k is none of it: its rounds depend on which item is sought.
DATAPATH = ("logic.qk", "logic.softmax", "logic.pv", "logic.importance", "sram.key", "sram.value")
ARCHS = ("spatten", "spatten-eighth", "spatten-e2e", "spatten-rtl", "systolic")


@lru_cache
def machine(arch: str) -> Design:
    return make(arch)[0]


@st.composite
def ops(draw: st.DrawFn) -> AttentionOp:
    keys, heads = draw(st.integers(1, 200)), draw(st.integers(1, 5))
    queries = draw(st.sampled_from([1, keys]))
    local = draw(st.integers(1, keys)) if queries == 1 else keys
    low = draw(st.sampled_from([0, 4]))
    return attention(
        keys,
        queries,
        heads,
        draw(st.sampled_from([32, 64, 80, 128])),
        phase="generate" if queries == 1 else "summarise",
        context=keys + draw(st.integers(0, 60)),
        values=(local,) * heads,
        local_values=local,
        lsb_queries=tuple(draw(st.integers(0, queries)) if low else 0 for _ in range(heads)),
        token_select=draw(st.sampled_from([None, (keys, max(keys // 2, 1))])),
        key_msb_bits=draw(st.sampled_from([4, 6, 8])),
        key_lsb_bits=low,
        value_bits=draw(st.sampled_from([6, 8, 10])),
        query_bits=draw(st.sampled_from([8, 10])),
    )


def more_tokens(op: AttentionOp) -> AttentionOp:
    """One more key; in a summary, one more query as well, and its V row."""
    whole = op.phase == "summarise"
    values = tuple(value + whole for value in op.values)
    grown = {"keys": op.keys + 1, "context": op.context + 1, "values": values, "local_values": op.local_values + whole}
    select = None if op.token_select is None else (op.keys + 1, op.token_select[1])
    return dataclasses.replace(op, **grown, queries=op.queries + whole, token_select=select)


def more_heads(op: AttentionOp) -> AttentionOp:
    count = len(op.heads)
    last = {"values": (*op.values, op.values[-1]), "lsb_queries": (*op.lsb_queries, op.lsb_queries[-1])}
    return dataclasses.replace(op, heads=(*op.heads, count), kv_heads=count + 1, **last)


def more_bits(name: str, op: AttentionOp) -> AttentionOp:
    return dataclasses.replace(op, **{name: getattr(op, name) + 2})


def facts(design: Design, op: AttentionOp) -> dict[str, float]:
    """Operations, useful bytes of what is asked for, and energies of the data path."""
    cost = design.cost(op, None, 0)
    found = {f"operations of {name}": float(cost.operations.get(name, 0)) for name in ("qk", "softmax", "pv", "array")}
    found["useful bytes"] = float(sum(moved.useful_bytes for moved in cost.traffic.values()))
    energies = design.on_chip_energy(cost)
    found.update({name: energies[name].pj for name in (*DATAPATH, "logic.array", "sram.buffer") if name in energies})
    return found


@pytest.mark.parametrize("arch", ["spatten", "spatten-eighth", "systolic"])
@settings(max_examples=25, deadline=None)
@given(op=ops())
def test_growth_never_costs_less_work(arch: str, op: AttentionOp) -> None:
    design = machine(arch)
    before = facts(design, op)
    grown = {
        "tokens": more_tokens(op),
        "heads": more_heads(op),
        **{name: more_bits(name, op) for name in ("key_msb_bits", "value_bits", "query_bits")},
    }
    for what, larger in grown.items():
        after = facts(design, larger)
        fell = {name: (before[name], after[name]) for name in before if after[name] < before[name] * (1 - 1e-12)}
        assert not fell, f"more {what}"


@pytest.mark.parametrize("fidelity", ["event", "analytical"])
@pytest.mark.parametrize("arch", ARCHS)
@settings(max_examples=15, deadline=None)
@given(op=ops(), cycle=st.integers(0, 10**6))
def test_nothing_is_negative_or_undefined(arch: str, fidelity: str, op: AttentionOp, cycle: int) -> None:
    design = machine(arch)
    design.use(fidelity)  # type: ignore[arg-type]
    cost = design.cost(op, None, cycle)
    design.use("event")
    check(design, cost)


def check(design: Design, cost: Cost) -> None:
    assert cost.cycles > 0
    for name, unit in cost.unit_cycles().items():
        assert min(unit.busy, unit.starved, unit.blocked, unit.idle) >= 0 and unit.total == cost.cycles, name
    for name, energy in design.energy(cost).items():
        assert 0 <= energy.low_pj <= energy.pj * (1 + 1e-12) and energy.pj <= energy.high_pj * (1 + 1e-12), name
        assert math.isfinite(energy.high_pj), name
    assert all(value >= 0 for value in (*cost.events.values(), *cost.operations.values(), *cost.busy_cycles.values()))


@settings(max_examples=40, deadline=None)
@given(
    multipliers=st.sampled_from([16, 64, 256, 1024]),
    lanes=st.sampled_from([1, 4, 8, 32]),
    parallelism=st.sampled_from([1, 2, 16, 64]),
    size=st.sampled_from([24576, 196608, 1 << 20]),
    bits=st.integers(4, 16),
)
def test_areas_of_any_size_are_positive(multipliers: int, lanes: int, parallelism: int, size: int, bits: int) -> None:
    sizes = {
        "array.multipliers": multipliers,
        "array.element_bits": bits,
        "fetcher.lanes": lanes,
        "topk.parallelism": parallelism,
        "softmax.parallelism": lanes,
        "sram.bytes": size,
    }
    areas = make("spatten", sizes)[0].areas()
    assert all(0 <= area.mm2 < 1e3 and 0 <= area.logic_mm2 < 1e3 for area in areas)
    assert sum(area.mm2 for area in areas) > 0.01
