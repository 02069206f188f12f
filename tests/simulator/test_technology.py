"""Node, supply and clock: every rule against arithmetic by hand, and what is refused."""

from __future__ import annotations

import math

import pytest

from simulator.designs.registry import make
from simulator.engine.interface import Cost
from simulator.errors import ConfigError, InvalidValueError
from simulator.tech import Technology, TechnologySettings, constant, scaling_rules, sram_family, sram_macro


def at(node: float | None, vdd: float | None = None, extrapolate: bool = False) -> Technology:
    return Technology(TechnologySettings(node_nm=node, vdd=vdd, extrapolate=extrapolate))


def test_arithmetic_lies_geometrically_between_its_two_nodes() -> None:
    """28 nm: share ln(45/28) / ln(45/7) = 0.2550 of the way from 0.2 to 0.07 pJ: 0.2 x 0.35^0.2550 = 0.1530."""
    share = math.log(45 / 28) / math.log(45 / 7)
    assert share == pytest.approx(0.2550, abs=1e-4)
    found = at(28).constant("horowitz2014.int8_multiply")
    assert found.value == pytest.approx(0.2 * 0.35**share) == pytest.approx(0.1530, abs=1e-4)
    assert at(28).constant("horowitz2014.int8_add").value == pytest.approx(0.03 * (0.007 / 0.03) ** share)
    assert at(45).constant("horowitz2014.int8_multiply").value == 0.2
    assert at(7).constant("horowitz2014.int8_multiply").value == pytest.approx(0.07)
    assert "ISCA 2021" in found.source and found.source.endswith("scaled to 28 nm")


@pytest.mark.parametrize(("node", "table"), [(45, "cacti7_45nm"), (32, "cacti7_32nm"), (22, "cacti7_22nm")])
@pytest.mark.parametrize(("size", "bits"), [(2048, 64), (4096, 128), (196608, 128)])
def test_sram_meets_the_rows_of_cacti(node: float, table: str, size: int, bits: int) -> None:
    """A macro of another node is that node's own row, not a factor of this one."""
    found, row = at(node).macro("cacti7_45nm", size, bits), sram_macro(table, size, bits)
    for field in ("read_pj", "write_pj", "leakage_mw", "area_mm2"):
        assert getattr(found, field) == pytest.approx(getattr(row, field))


def test_sram_between_two_rows() -> None:
    """40 nm: ln(45/40) / ln(45/32) = 0.3455 of the way; read 3.7 to 2.0 pJ of a 4 KiB macro: 2.991 pJ."""
    share = math.log(45 / 40) / math.log(45 / 32)
    found = at(40).macro("cacti7_45nm", 4096, 128)
    assert found.read_pj == pytest.approx(3.7 * (2.0 / 3.7) ** share) == pytest.approx(2.991, abs=2e-3)
    assert found.leakage_mw == pytest.approx(3.7 * (0.914 / 3.7) ** share)
    logic = at(40).constant("horowitz2014.int8_multiply").value / 0.2
    assert found.read_pj / 3.7 < 0.9 * logic  # never the factor of logic


def test_wires_have_their_own_rule() -> None:
    share = math.log(45 / 40) / math.log(45 / 32)
    found = at(40).constant("cacti7_wires.charge_per_mm", supply="sram")
    assert found.value == pytest.approx(0.438441 * (0.350036 / 0.438441) ** share)
    assert found.low == pytest.approx(found.value * 0.303489 / 0.438441)


def test_a_constant_of_one_node_follows_another() -> None:
    """Aladdin's areas are of 40 nm: area(32) = area(40) x s(32) / s(40), s of Stillmaker and Baas, 0.46 at 32 nm."""
    s40 = 0.46 ** (math.log(45 / 40) / math.log(45 / 32))
    found = at(32).constant("aladdin2014.int32_multiply_area")
    assert found.value == pytest.approx(6351.338 * 0.46 / s40)
    assert at(40).constant("aladdin2014.int32_multiply_area").value == 6351.338


def test_the_supply_acts_squared_on_energy_and_once_on_leakage() -> None:
    """Nominal at 45 nm: 0.9 V for logic (Horowitz), 1.0 V for SRAM (CACTI). At 0.8 V: (8/9)^2 and 0.8^2."""
    assert at(45, 0.8).constant("horowitz2014.int8_multiply").value == pytest.approx(0.2 * (0.8 / 0.9) ** 2)
    macro = at(45, 0.8).macro("cacti7_45nm", 4096, 128)
    assert (macro.read_pj, macro.write_pj) == pytest.approx((3.7 * 0.64, 9.7 * 0.64))
    assert macro.leakage_mw == pytest.approx(3.7 * 0.8)
    assert macro.area_mm2 == sram_macro("cacti7_45nm", 4096, 128).area_mm2
    leakage = at(40, 0.45).constant("aladdin2014.leakage_per_mm2").value
    assert leakage == pytest.approx(12.259 * 0.45 / at(40).nominal_vdd())
    area = at(40, 0.45).constant("aladdin2014.gate_area")
    assert area.value == constant("aladdin2014.gate_area").value


@pytest.mark.parametrize("node", [90.0, 16.0, 5.0])
def test_nothing_is_extrapolated_unasked(node: float) -> None:
    with pytest.raises(InvalidValueError, match=r"(?s)outside the nodes.*--node.*22 to 45 nm.*--extrapolate"):
        at(node).macro("cacti7_45nm", 4096, 128)
    macro = at(node, extrapolate=True).macro("cacti7_45nm", 4096, 128)
    assert 0 < macro.read_pj < math.inf and 0 < macro.leakage_mw < math.inf


def test_the_ranges_of_logic_and_sram_differ() -> None:
    assert at(16).constant("horowitz2014.int8_multiply").value > 0
    with pytest.raises(InvalidValueError, match="7 to 45 nm"):
        at(65).constant("horowitz2014.int8_multiply")
    with pytest.raises(InvalidValueError, match=r"40 nm|one node|45 nm"):
        at(28).constant("a3_2020.sram_leakage_per_byte")
    ranges = {rule.name: (rule.low_nm, rule.high_nm) for rule in scaling_rules()}
    assert ranges["arithmetic energy"] == (7, 45) and ranges["SRAM energy, leakage, area"] == (22, 45)
    assert ranges["wire energy"] == (22, 45) and ranges["logic area"] == (7, 45)
    assert sram_family("cacti7_32nm") == ["cacti7_22nm", "cacti7_32nm", "cacti7_45nm"]


def test_extrapolation_continues_the_line() -> None:
    """11 nm is half of 22: read(11) = read(22) x (read(22) / read(32))^(ln 2 / ln(32/22))."""
    r32, r22 = (sram_macro(f"cacti7_{node}nm", 4096, 128).read_pj for node in (32, 22))
    found = at(11, extrapolate=True).macro("cacti7_45nm", 4096, 128)
    assert found.read_pj == pytest.approx(r22 * (r22 / r32) ** (math.log(2) / math.log(32 / 22)))


COST = Cost(1000, busy_cycles={"qk": 10, "array": 10}, events={"qk_macs": 5.0, "macs": 5.0, "key_bits_read": 64.0})


@pytest.mark.parametrize("arch", ["spatten", "spatten-eighth", "systolic"])
def test_leakage_and_idle_clocks_grow_with_time(arch: str) -> None:
    design = make(arch)[0]
    short, long = design.on_chip_energy(COST), design.on_chip_energy(Cost(2000, busy_cycles=COST.busy_cycles))
    for name in ("logic.leakage", "sram.leakage"):
        assert long[name].pj == pytest.approx(2 * short[name].pj)
    assert long["logic.idle_clocks"].pj > short["logic.idle_clocks"].pj > 0
    stopped = make(arch, {"silicon.clock_gated": 1.0})[0].on_chip_energy(COST)
    assert stopped["logic.idle_clocks"].pj == 0 and stopped["logic.leakage"] == short["logic.leakage"]
    half = make(arch, {"silicon.clock_gated": 0.5})[0].on_chip_energy(COST)
    assert half["logic.idle_clocks"].pj == pytest.approx(short["logic.idle_clocks"].pj / 2)


DOUBLED = {
    "array.multipliers": (512, ["qk.multipliers", "pv.multipliers", "qk.adders", "qk.registers"]),
    "sram.bytes": (196608, ["key.sram", "value.sram"]),
    "topk.parallelism": (16, ["topk.comparators", "topk.zero_eliminators", "topk.fifos"]),
    "softmax.parallelism": (8, ["softmax.floating_point", "softmax.dividers", "softmax.registers"]),
    "fetcher.fifo_depth": (64, ["fetcher.fifos"]),
    "fetcher.lanes": (32, ["fetcher.crossbars", "fetcher.fifos"]),
}


@pytest.mark.parametrize("key", DOUBLED)
def test_doubling_a_unit_moves_its_area(key: str) -> None:
    value, parts = DOUBLED[key]
    one, two = ({a.component: a.mm2 for a in make("spatten", {key: n * value})[0].areas()} for n in (1, 2))
    for name in parts:
        assert two[name] >= 1.99 * one[name], name
    assert sum(two.values()) > sum(one.values())


def test_area_by_hand() -> None:
    """512 multipliers of 12 bits: 512 x 6351.338 um2 x (12/32)^2 = 0.4573 mm2; 48 macros of 4 KiB at 40 nm."""
    design = make("spatten")[0]
    areas = {area.component: area for area in design.areas()}
    assert areas["qk.multipliers"].mm2 == pytest.approx(0.4573, abs=1e-4)
    assert areas["topk.comparators"].mm2 == pytest.approx(4 * 16 * 277.9792e-6 * 12 / 32)
    assert areas["key.sram"].mm2 == pytest.approx(48 * at(40).macro("cacti7_45nm", 4096, 128).area_mm2)
    assert all(area.mm2 > 0 and area.source for area in areas.values())
    wide = {area.component: area.mm2 for area in make("spatten", {"array.element_bits": 24})[0].areas()}
    assert wide["qk.multipliers"] == pytest.approx(4 * areas["qk.multipliers"].mm2)


def test_an_unknown_constant_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown constant"):
        make("spatten", {"silicon.leakage": "aladdin2014.leak"})
    with pytest.raises(ConfigError, match="is in um2"):
        make("spatten", {"silicon.register_energy": "aladdin2014.register_bit_area"})
