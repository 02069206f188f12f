"""Energy: every part is its count times its constant, with the source of the constant."""

from __future__ import annotations

from pathlib import Path

import pytest

import simulator
from simulator.designs.registry import make
from simulator.engine.interface import Cost
from simulator.errors import ConfigError, UnknownNameError
from simulator.memory import (
    DramCounts,
    MemorySpec,
    Traffic,
    default_model,
    dram_energy,
    energy_models,
    energy_table,
    load_memory,
    standard_names,
)
from simulator.memory import spec as spec_module
from simulator.tech import constant
from simulator.workload import ReadRequest
from simulator.workload.reader import read_workload

SPEC = load_memory("hbm2", 16)
FORMS = {model: load_memory(name) for model, name in (("per-access", "hbm2-legacy"), ("idd", "hbm2-dramsim3"))}


def pj(spec: MemorySpec, model: str, **counts: float) -> dict[str, float]:
    """Return the energies of a run that lasted no time unless `counts` say so."""
    zero = {"activations": 0.0, "reads": 0.0, "writes": 0.0, "time_ns": 0.0, "active_ns": 0.0}
    return {name: part.energy_pj for name, part in dram_energy(spec, DramCounts(**{**zero, **counts}), model).items()}


def edited(tmp_path: Path, name: str, change: str, to: str) -> str:
    """Return a copy of a shipped memory file with one text replaced."""
    text = (Path(spec_module.__file__).parent / "standards" / f"{name}.yaml").read_text()
    assert change in text
    path = tmp_path / "memory.yaml"
    path.write_text(text.replace(change, to))
    return str(path)


def test_dram_parts_are_counts_times_constants() -> None:
    counts = DramCounts(activations=70, reads=900, writes=100, time_ns=39_000.0, active_ns=32 * 9_000.0)
    parts = dram_energy(SPEC, counts)
    bits = 1000 * 32 * 8
    expected = {
        "activation": 70 * 909,
        "movement": bits * 2.68,
        "io": bits * 0.80,
        "refresh": 16 * 10 * 60_800,
        "standby_active": 16 * 66 * 9_000,
        "standby_precharged": 16 * 48 * 30_000,
    }
    assert {name: part.energy_pj for name, part in parts.items()} == pytest.approx(expected)
    assert all(part.low_pj <= part.energy_pj <= part.high_pj for part in parts.values())
    assert parts["io"].low_pj == pytest.approx(bits * 0.30)
    assert parts["activation"].low_pj == pytest.approx(70 * 828)


@pytest.mark.parametrize("name", [name for name in standard_names() if energy_models(load_memory(name))])
def test_the_interval_encloses_the_energy(name: str) -> None:
    spec = load_memory(name)
    for model in energy_models(spec):
        parts = dram_energy(spec, DramCounts(1e3, 2e4, 1e4, 1e6, 5e5 * spec.units), model)
        assert all(0 < part.low_pj <= part.energy_pj <= part.high_pj for part in parts.values())
        assert any(part.low_pj < part.high_pj for part in parts.values())


def test_currents_give_the_energies_of_dramsim3_for_hbm2() -> None:
    """VDD 1.2 V; IDD0 65, 2N 40, 3N 55, 4R 390, 4W 500, 5AB 250 mA; the tool adds the same amounts for each command."""
    spec = FORMS["idd"]
    assert pj(spec, "idd", activations=1)["activation"] == pytest.approx(1.2 * (65 * 48 - 55 * 34 - 40 * 14))
    assert pj(spec, "idd", activations=1)["activation"] == pytest.approx(828)
    assert pj(spec, "idd", reads=1)["movement"] == pytest.approx(804)
    assert pj(spec, "idd", writes=1)["movement"] == pytest.approx(1068)
    assert pj(spec, "idd", refreshes=1)["refresh"] == pytest.approx(60_840)
    standby = pj(spec, "idd", time_ns=100, active_ns=30)  # one rank open for 30 ns, seven channels closed all the time
    assert standby["standby_active"] == pytest.approx(66 * 30)
    assert standby["standby_precharged"] == pytest.approx(48 * (8 * 100 - 30))
    assert "io" not in standby


def test_currents_give_the_energies_of_dramsim3_for_ddr4() -> None:
    """A rank of eight x8 devices at 3200, with that tool's clock of 0.63 ns and its tRFC of 560 clocks."""
    spec = load_memory("ddr4-3200", settings={"clock": "1587.3016 MHz", "tRFC": "560 ck"})
    assert pj(spec, "idd", activations=1)["activation"] == pytest.approx(4234, rel=1e-3)
    assert pj(spec, "idd", reads=1)["movement"] / 512 == pytest.approx(5.48, rel=1e-3)
    assert pj(spec, "idd", writes=1)["movement"] / 512 == pytest.approx(4.63, rel=1e-3)
    assert pj(spec, "idd", refreshes=1)["refresh"] == pytest.approx(670_600, rel=1e-3)
    assert pj(spec, "idd", time_ns=1, active_ns=1)["standby_active"] == pytest.approx(499.2)
    assert pj(spec, "idd", time_ns=1)["standby_precharged"] == pytest.approx(355.2)


def test_currents_of_several_supplies_add_up() -> None:
    """LPDDR4: VDD1 1.8 V, VDD2 1.1 V and the drivers' VDDQ 1.1 V, whose moved bits are apart."""
    spec = load_memory("lpddr4-3200")
    read = pj(spec, "idd", reads=1)
    assert read["movement"] == pytest.approx(1.1 * (275 - 30) * 5.0)
    assert read["io"] == pytest.approx(1.1 * (150 - 0.75) * 5.0)
    core, old, drivers = ((45, 30, 27), (3.5, 2.25, 2), (0.75, 0.75, 0.75))
    ras, rp = 68 / 1.6, 29 / 1.6
    expected = sum(
        volts * (i0 * (ras + rp) - i3n * ras - i2n * rp)
        for volts, (i0, i3n, i2n) in ((1.1, core), (1.8, old), (1.1, drivers))
    )
    assert pj(spec, "idd", activations=1)["activation"] == pytest.approx(expected)
    assert pj(spec, "idd", time_ns=1, active_ns=4)["standby_active"] == pytest.approx(4 * (1.1 * 30.75 + 1.8 * 2.25))


def test_half_the_width_has_half_the_currents() -> None:
    """A pseudo-channel moves the same bits at the same energy with half the current and background of its channel."""
    half, whole = load_memory("hbm2"), FORMS["idd"]
    assert pj(half, "idd", reads=2)["movement"] == pytest.approx(pj(whole, "idd", reads=1)["movement"])
    assert pj(half, "idd", activations=2)["activation"] == pytest.approx(pj(whole, "idd", activations=1)["activation"])
    assert pj(half, "idd", time_ns=9) == pytest.approx(
        {**pj(whole, "idd", time_ns=9), "refresh": 8 * 9 / 3900 * 1.2 * 195 * 350}
    )


@pytest.mark.parametrize("model", ["per-access", "idd"])
def test_refreshes_follow_from_the_time_and_the_policy(model: str) -> None:
    spec = FORMS[model]
    all_bank = pj(spec, model, time_ns=39_000)["refresh"]
    assert (
        all_bank == pytest.approx(pj(spec, model, refreshes=8 * 10)["refresh"]) == pytest.approx(80 * 60_800, rel=1e-3)
    )
    none = spec.with_settings({"controller.refresh": "none"})
    assert pj(none, model, time_ns=39_000)["refresh"] == 0
    by_bank = spec.with_settings({"controller.refresh": "per_bank", "tRFCpb": "100 ns"})
    assert pj(by_bank, model, time_ns=39_000)["refresh"] == pytest.approx(all_bank)
    assert pj(by_bank, model, bank_refreshes=16)["refresh"] == pytest.approx(all_bank / 80)


def test_a_per_bank_refresh_current_is_used_where_there_is_one(tmp_path: Path) -> None:
    path = edited(tmp_path, "hbm2-dramsim3", 'IDD5AB: "250 mA"', 'IDD5AB: "250 mA"\n    IDD5PB: "75 mA"')
    spec = load_memory(path, settings={"controller.refresh": "per_bank", "tRFCpb": "100 ns"})
    assert pj(spec, "idd", bank_refreshes=1)["refresh"] == pytest.approx(1.2 * 20 * 100)


@pytest.mark.parametrize("name", [name for name in standard_names() if energy_models(load_memory(name))])
def test_the_table_prints_every_constant_with_its_source(name: str) -> None:
    spec = load_memory(name)
    for model in energy_models(spec):
        rows = energy_table(spec, model)
        assert {row.part for row in rows} == set(pj(spec, model))
        assert all(row.source and row.unit in ("pJ", "pJ/bit", "mW") and row.formula for row in rows)
        assert all(row.low <= row.value <= row.high for row in rows)
    assert default_model(spec) == energy_models(spec)[0]


def test_a_model_without_numbers_is_named_with_those_that_have() -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)ddr4-3200 has no published numbers .*'per-access'.*expected: one of idd"
    ):
        pj(load_memory("ddr4-3200"), "per-access")
    known = load_memory("ddr5-4800")
    nothing = known.model_copy(update={"energy": type(known.energy)()})
    assert energy_models(nothing) == ()
    with pytest.raises(ConfigError, match=r"(?s)ddr5-4800 has no published numbers.*this one has none"):
        energy_table(nothing, default_model(nothing))
    with pytest.raises(UnknownNameError, match=r"(?s)no energy model named 'ids'.*did you mean 'idd'"):
        energy_table(SPEC, "ids")


def test_a_total_per_bit_holds_all_parts() -> None:
    parts = dram_energy(load_memory("gddr6-14"), DramCounts(5, 20, 10, time_ns=1000, active_ns=900))
    assert parts.keys() == {"movement"}
    part = parts["movement"]
    assert (part.low_pj, part.energy_pj, part.high_pj) == tuple(30 * 256 * per_bit for per_bit in (5.5, 6.5, 7.5))


def test_the_model_that_a_memory_prefers() -> None:
    assert energy_models(load_memory("hbm2")) == ("per-access", "idd")
    assert energy_models(load_memory("hbm2-dramsim3")) == ("idd", "per-access")
    assert [default_model(load_memory(name)) for name in ("hbm3", "lpddr4-3200")] == ["per-access", "idd"]


def test_a_run_of_dramsim3_costs_what_it_says() -> None:
    """Counts and total that DRAMsim3's formulas give for 20,000 random 64 B reads of HBM2_8Gb_x128."""
    counts = DramCounts(20_035, 19_999, 0, time_ns=21_515, active_ns=161_144, refreshes=40)
    parts = dram_energy(FORMS["idd"], counts, "idd")
    assert sum(part.energy_pj for part in parts.values()) == pytest.approx(46_264_128)


def test_currents_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    path = edited(tmp_path, "hbm2-dramsim3", 'IDD4R: "390 mA"', 'IDD4R: "39 mA"')
    with pytest.raises(ConfigError, match=r"contradict each other: VDD \(IDD4R - IDD3N\) tBURST / bits is -0.075"):
        pj(load_memory(path), "idd", reads=1)


def test_a_sequential_stream_costs_the_published_energy_per_bit() -> None:
    """O'Connor et al. give 3.92 pJ/bit on average for HBM2; long rows amortise the activation."""
    import numpy as np

    from simulator.memory import Memory

    memory = Memory(SPEC, 1.0, ("read",), 4096)
    memory.reset()
    memory.submit(0, np.array([0]), 8 << 20, 0)
    memory.run_until(1 << 50)
    counts = memory.traffic()["read"]
    parts = dram_energy(SPEC, DramCounts(counts.activations, counts.bursts, 0, 0.0, 0.0))
    per_bit = sum(part.energy_pj for part in parts.values()) / (8 * counts.bursts * 32)
    assert per_bit == pytest.approx(2.68 + 0.80 + 909 / (1024 * 8), rel=0.02)
    low = sum(part.low_pj for part in parts.values()) / (8 * counts.bursts * 32)
    assert low < 3.92 and per_bit == pytest.approx(3.92, rel=0.1)


def test_nothing_costs_nothing() -> None:
    assert set(pj(SPEC, "per-access").values()) == {0.0}
    for arch in ("spatten", "systolic"):
        design = make(arch)[0]
        assert sum(energy.pj for energy in design.energy(Cost(0)).values()) == 0


def test_on_chip_parts_are_counts_times_constants() -> None:
    design = make("spatten", {"technology.node_nm": None})[0]  # every constant as published
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
    parts = design.on_chip_energy(Cost(1000, busy_cycles={"qk": 400, "pv": 500, "topk": 7}, events=events))
    mac = 0.2 * (12 / 8) ** 2 + 0.03 * 3
    softmax = 3.7 + 5 * (3.7 + 0.9) + 0.9 + 16 * 0.06
    # Operands and products of 12 and 24 bits, then a tree over 64 lanes; over 8 rows with 64 accumulators of 32 bits.
    qk_bits = 512 * (24 + 24 + sum((24 + i) / 2**i for i in range(1, 7)))
    pv_bits = 512 * (24 + 24 + sum((24 + i) / 2**i for i in range(1, 4))) + 64 * 32
    softmax_bits, topk_bits = 87 * 8 * 32, 2 * 16 * (12 + 10) * 5
    register, clock = 0.008999495, 0.007936518
    idle = qk_bits * 600 + pv_bits * 500 + softmax_bits * 1000 + topk_bits * (993 + 1000)
    side = sum(area.mm2 for area in design.areas()) ** 0.5
    logic_mm2 = sum(
        area.mm2 for area in design.areas() if "sram" not in area.component and "fifo" not in area.component
    )
    fifo_macros = (32 * 64 * (8 + 16) + 2 * 2 * 64 * 16 * 22 / 8) / 2048
    expected = {
        "logic.qk": 1e3 * mac + qk_bits * 400 * register,
        "logic.pv": 2e3 * mac + pv_bits * 500 * register,
        "logic.softmax": 10 * softmax,
        "logic.topk": 100 * 0.045 + topk_bits * 7 * register,
        "logic.topk_value": 50 * 0.045,
        "logic.importance": 30 * 0.12,
        "logic.wires": 256 * 0.438441 / 4 * side,
        "logic.idle_clocks": idle * clock,
        "logic.leakage": logic_mm2 * 12.259 * 1000,
        "sram.key": 10 * 9.7 + 20 * 3.7,
        "sram.value": 9.7,
        "sram.fetch_fifo": 2 * (3.1 + 6.1),
        "sram.leakage": (2 * 48 * 3.7 + fifo_macros * 1.9) * 1000,
    }
    assert {name: part.pj for name, part in parts.items()} == pytest.approx(expected)
    assert all(part.source and part.group == name.split(".")[0] for name, part in parts.items())


def test_the_clock_changes_leakage_and_standby_but_no_event() -> None:
    slow, fast = make("spatten", {"clock_ghz": 0.5})[0], make("spatten")[0]
    cost = Cost(1000, 10, 80.0, traffic={"value": Traffic(32, 1, 1, 0)}, events={"qk_macs": 5.0})
    low, high = fast.energy(cost), slow.energy(cost)
    for name in ("sram.leakage", "dram.refresh", "dram.standby_active", "dram.standby_precharged"):
        assert high[name].pj == pytest.approx(2 * low[name].pj)
    for name in ("logic.qk", "dram.activation", "dram.movement", "dram.io"):
        assert high[name].pj == low[name].pj > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("hbm2_idd.active_standby", "is in mW"),
        ("hbm2_idd.activate", "unknown constant"),
        ("hbm2_iddd.refresh", "(?s)unknown constants table.*hbm2_idd"),
        ("909 nJ", "'909 nJ' is not in pJ"),
        ("909", "'909' is not in pJ"),
        ("-909 pJ", "the energy or power '-909 pJ' is out of range"),
        ("1e999 pJ", "the energy or power '1e999 pJ' is out of range"),
    ],
)
def test_constants_that_do_not_fit_are_refused(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pj(SPEC.with_settings({"energy.per_access.activation": f"'{given}'"}), "per-access")


def test_a_constant_may_be_given_as_a_quantity() -> None:
    spec = SPEC.with_settings({"energy.per_access.activation": "1000 pJ", "energy.per_access.io_per_bit": "1.5 pJ/bit"})
    parts = dram_energy(spec, DramCounts(3, 1, 0, 0.0, 0.0))
    assert (parts["activation"].energy_pj, parts["io"].energy_pj) == pytest.approx((3000, 1.5 * 256))
    assert parts["activation"].kind == "assumed" and "hbm2" in parts["activation"].source


def test_the_units_of_the_tables() -> None:
    sources = SPEC.energy.per_access
    assert sources is not None
    units = {
        sources.activation: "pJ",
        sources.movement_per_bit: "pJ/bit",
        sources.io_per_bit: "pJ/bit",
        sources.refresh: "pJ",
        sources.active_standby: "mW",
        sources.precharged_standby: "mW",
    }
    assert {name: constant(name).unit for name in units} == units


def test_the_interval_of_a_constant_names_its_origin() -> None:
    movement = constant("hbm2_oconnor2017.movement_per_bit")
    assert (movement.low, movement.value, movement.high) == (1.57, 2.68, 6.12)
    assert "MICRO 2017" in movement.source and "AccelForge" in movement.source


def test_the_calibrated_constants_follow_from_the_published_power() -> None:
    """Table II: logic 1.36 W, SRAM 1.24 W; if the model changes, the factors of the table have to follow."""
    workload = read_workload("bert-base", ReadRequest(None, "none", 384, 1, 0, None, None, False)).only("summarise")
    plain, fitted = (
        simulator.run(workload, set={"silicon.calibration": name}) for name in ("none", "calibrated_spatten2021")
    )
    assert fitted.technology is not None and plain.technology is not None
    assert fitted.technology.used.power_w["logic"] == pytest.approx(1.36, rel=0.02)
    assert fitted.technology.used.power_w["sram"] == pytest.approx(1.24, rel=0.02)
    assert fitted.technology.used.energy_pj["dram"] == plain.technology.used.energy_pj["dram"]
    on_chip = [item for item in fitted.energy.values() if item.group != "dram"]
    assert all(item.kind == "assumed" and "calibrated" in item.source for item in on_chip)
    with pytest.raises(ConfigError, match=r"(?s)unknown constants table.*calibrated_spatten2021"):
        make("spatten", {"silicon.calibration": "calibrated_spatten"})
