"""Energy: every part is its count times its constant, with the source of the constant."""

from __future__ import annotations

import pytest

from simulator.designs.registry import make
from simulator.engine.interface import Cost
from simulator.errors import ConfigError
from simulator.memory import Traffic, dram_energy, load_memory
from simulator.tech import constant

SPEC = load_memory("hbm2", 16)


def test_dram_parts_are_counts_times_constants() -> None:
    parts = dram_energy(SPEC, bursts=1000, activations=70, time_ns=39_000.0, active_ns=9_000.0)
    bits = 1000 * 32 * 8
    expected = {
        "dram.activation": 70 * 909,
        "dram.movement": bits * 2.68,
        "dram.io": bits * 0.80,
        "dram.refresh": 16 * 10 * 60_800,
        "dram.standby_active": 16 * 66 * 9_000,
        "dram.standby_precharged": 16 * 48 * 30_000,
    }
    assert {name: part.energy_pj for name, part in parts.items()} == pytest.approx(expected)
    assert all(part.low_pj <= part.energy_pj <= part.high_pj for part in parts.values())
    assert parts["dram.io"].low_pj == pytest.approx(bits * 0.30)


def test_a_sequential_stream_costs_the_published_energy_per_bit() -> None:
    """O'Connor et al. give 3.92 pJ/bit on average for HBM2; long rows amortise the activation."""
    import numpy as np

    from simulator.memory import Memory

    memory = Memory(SPEC, 1.0, ("read",), 4096)
    memory.reset()
    memory.submit(0, np.array([0]), 8 << 20, 0)
    memory.run_until(1 << 50)
    counts = memory.traffic()["read"]
    parts = dram_energy(SPEC, counts.bursts, counts.activations, 0.0, 0.0)
    per_bit = sum(part.energy_pj for part in parts.values()) / (8 * counts.bursts * 32)
    assert per_bit == pytest.approx(2.68 + 0.80 + 909 / (1024 * 8), rel=0.02)
    low = sum(part.low_pj for part in parts.values()) / (8 * counts.bursts * 32)
    assert low < 3.92 and per_bit == pytest.approx(3.92, rel=0.1)


def test_nothing_costs_nothing() -> None:
    assert sum(part.energy_pj for part in dram_energy(SPEC, 0, 0, 0.0, 0.0).values()) == 0
    for arch in ("spatten", "systolic"):
        design = make(arch)[0]
        assert sum(energy.pj for energy in design.energy(Cost(0)).values()) == 0


def test_on_chip_parts_are_counts_times_constants() -> None:
    design = make("spatten")[0]
    events = {
        "qk_macs": 1e3,
        "pv_macs": 2e3,
        "probabilities": 10.0,
        "comparisons": 100.0,
        "value_comparisons": 50.0,
        "importance_adds": 30.0,
        "key_bits_written": 1280.0,
        "key_bits_read": 2560.0,
        "value_bits_written": 128.0,
        "fetched_bits": 256.0,
    }
    parts = design.on_chip_energy(Cost(1000, events=events))
    mac = 0.2 * (12 / 8) ** 2 + 0.03 * 3
    softmax = 3.7 + 5 * (3.7 + 0.9) + 0.9 + 16 * 0.06
    expected = {
        "logic.qk": 1e3 * mac,
        "logic.pv": 2e3 * mac,
        "logic.softmax": 10 * softmax,
        "logic.topk": 100 * 0.045,
        "logic.topk_value": 50 * 0.045,
        "logic.importance": 30 * 0.12,
        "sram.key": 10 * 9.7 + 20 * 3.7,
        "sram.value": 9.7,
        "sram.fetch_fifo": 2 * (3.1 + 6.1),
        "sram.leakage": 2 * 48 * 3.7 * 1000,
    }
    assert {name: part.pj for name, part in parts.items()} == pytest.approx(expected)
    assert all(part.source and part.group == name.split(".")[0] for name, part in parts.items())


def test_the_clock_changes_leakage_and_standby_but_no_event() -> None:
    slow, fast = make("spatten", {"clock_ghz": 0.5})[0], make("spatten")[0]
    cost = Cost(1000, 10, traffic={"value": Traffic(32, 1, 1, 0)}, events={"qk_macs": 5.0})
    low, high = fast.energy(cost), slow.energy(cost)
    for name in ("sram.leakage", "dram.refresh", "dram.standby_active", "dram.standby_precharged"):
        assert high[name].pj == pytest.approx(2 * low[name].pj)
    for name in ("logic.qk", "dram.activation", "dram.movement", "dram.io"):
        assert high[name].pj == low[name].pj > 0


def test_a_constant_in_another_unit_is_refused() -> None:
    swapped = SPEC.energy.model_copy(update={"activation": SPEC.energy.active_standby})
    with pytest.raises(ConfigError, match="is in mW"):
        dram_energy(SPEC.model_copy(update={"energy": swapped}), 1, 1, 1.0, 1.0)


def test_the_units_of_the_tables() -> None:
    units = {
        SPEC.energy.activation: "pJ",
        SPEC.energy.movement_per_bit: "pJ/bit",
        SPEC.energy.io_per_bit: "pJ/bit",
        SPEC.energy.refresh: "pJ",
        SPEC.energy.active_standby: "mW",
        SPEC.energy.precharged_standby: "mW",
    }
    assert {name: constant(name).unit for name in units} == units
