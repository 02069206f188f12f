"""Other nodes, supplies and clocks: what a result shows, and options that contradict each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from command import Simulate

import simulator
from simulator.errors import ConfigError, InvalidValueError
from simulator.report.tables import tables_of
from simulator.result import Result
from simulator.workload import ReadRequest, Workload
from simulator.workload.reader import read_workload


@pytest.fixture(scope="module")
def workload() -> Workload:
    return read_workload("bert-base", ReadRequest(None, "none", 48, 1, 0, None, None, False)).only("summarise")


@pytest.fixture(scope="module")
def native(workload: Workload) -> Result:
    return simulator.run(workload)


def test_a_run_without_options_is_native(native: Result) -> None:
    technology = native.technology
    assert technology is not None and not technology.rescaled and technology.used == technology.native
    assert (technology.used.node_nm, technology.used.clock_ghz) == (40, 1.0)
    assert sum(technology.used.energy_pj.values()) == pytest.approx(native.energy_pj)
    assert technology.used.area_mm2 == pytest.approx(sum(item.mm2 for item in native.area))
    assert not any(rule.extrapolated for rule in technology.rules)
    titles = {table.title: table for table in tables_of(native)}
    assert titles["Technology"].columns == ("", "native") and titles["Area"].rows[-1][0] == "total"


@pytest.mark.parametrize("arch", ["spatten", "systolic"])
def test_another_node_changes_energy_and_area_but_no_time(workload: Workload, arch: str) -> None:
    result = simulator.run(workload, arch, node=28)
    technology = result.technology
    assert technology is not None and technology.rescaled
    used, own = technology.used, technology.native
    plain = simulator.run(workload, arch).technology
    assert plain is not None and own == plain.native
    assert used.time_s == own.time_s and used.energy_pj["dram"] == pytest.approx(own.energy_pj["dram"])
    assert used.energy_pj["sram"] < 0.6 * own.energy_pj["sram"] < 0.9 * own.energy_pj["sram"]
    assert 0.5 * own.energy_pj["logic"] < used.energy_pj["logic"] < own.energy_pj["logic"]
    assert used.area_mm2 is not None and own.area_mm2 is not None and used.area_mm2 < own.area_mm2
    columns = {table.title: table.columns for table in tables_of(result)}
    assert columns["Technology"] == ("", "native", "rescaled")
    assert Result.from_json(result.to_json()) == result


def test_half_the_clock(workload: Workload, native: Result) -> None:
    """Leakage and standby double at most; no event costs more; the array needs twice the time."""
    result = simulator.run(workload, clock_ghz=0.5)
    assert result.technology is not None and result.technology.rescaled
    assert result.technology.native == native.technology.native  # type: ignore[union-attr]
    time, before = result.technology.used.time_s, result.technology.native.time_s
    assert 1.5 * before < time <= 2 * before
    for name in ("sram.leakage", "logic.leakage"):
        assert result.energy[name].energy_pj / native.energy[name].energy_pj == pytest.approx(time / before)
    for name in ("logic.qk", "sram.key", "logic.importance"):
        assert result.energy[name].energy_pj == pytest.approx(native.energy[name].energy_pj)


def test_the_supply(workload: Workload, native: Result) -> None:
    result = simulator.run(workload, vdd=0.7)
    assert result.technology is not None
    logic, sram = (0.7 / getattr(result.technology.native, name) for name in ("logic_vdd", "sram_vdd"))
    assert result.energy["logic.qk"].energy_pj == pytest.approx(native.energy["logic.qk"].energy_pj * logic**2)
    assert result.energy["sram.key"].energy_pj == pytest.approx(native.energy["sram.key"].energy_pj * sram**2)
    assert result.energy["sram.leakage"].energy_pj == pytest.approx(native.energy["sram.leakage"].energy_pj * sram)
    assert result.technology.used.energy_pj["dram"] == native.technology.native.energy_pj["dram"]  # type: ignore[union-attr]


def test_the_own_point_is_not_rescaled(workload: Workload, native: Result) -> None:
    same = simulator.run(workload, node=40, clock_ghz=1)
    assert same.technology is not None and not same.technology.rescaled
    assert dataclasses.replace(same, parameters={}, inputs=()) == dataclasses.replace(native, parameters={}, inputs=())


def test_a_node_without_rows_is_refused_or_marked(workload: Workload) -> None:
    with pytest.raises(InvalidValueError, match=r"(?s)16 nm is outside.*--node.*22 to 45 nm.*--extrapolate"):
        simulator.run(workload, node=16)
    technology = simulator.run(workload, node=16, extrapolate=True).technology
    assert technology is not None
    outside = {rule.name for rule in technology.rules if rule.extrapolated}
    assert outside == {"SRAM energy, leakage, area", "wire energy"}


@pytest.mark.parametrize(("name", "key"), [("node", "technology.node_nm"), ("clock_ghz", "clock_ghz")])
def test_an_option_and_its_setting_exclude_each_other(workload: Workload, name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is given twice"):
        simulator.run(workload, set={key: 28.0}, **{name: 30.0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"node": 0}, {"vdd": -1}, {"clock_ghz": 0}, {"vdd": 1e200}, {"clock_ghz": 1e-300}, {"clock_ghz": 1e300}],
)
def test_what_is_no_size_is_refused(workload: Workload, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"(greater|less) than or equal to"):
        simulator.run(workload, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("clock", ["1e-3", "5E-1", "1e+3"])
def test_the_slowest_and_the_fastest_clock_run(workload: Workload, clock: str) -> None:
    """As text of a setting, too: the exponents are those of JSON and Python."""
    result = simulator.run(workload, set={"clock_ghz": clock})
    assert result.clock_ghz == float(clock) and 0 < (result.scopes["attention"].time_s or 0) < 1
    assert result.energy_pj > 0


def test_the_command_shows_both_points(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    asked = ("--node", "28", "--vdd", "0.8", "--clock-ghz", "0.8")
    code, out, _ = simulate("bert-base", "--seq-len", "32", *asked, "--json", path)
    assert code == 0 and "native" in out and "rescaled" in out and "28 nm" in out and "0.8 GHz" in out
    technology = Result.load(path).technology
    assert technology is not None and technology.rescaled
    assert (technology.native.node_nm, technology.used.node_nm, technology.used.logic_vdd) == (40, 28, 0.8)
    code, _, err = simulate("bert-base", "--seq-len", "32", "--node", "16")
    assert code == 2 and "22 to 45 nm" in err and "--extrapolate" in err
    code, out, _ = simulate("bert-base", "--seq-len", "32", "--node", "16", "--extrapolate")
    assert code == 0 and "EXTRAPOLATED beyond the published nodes: SRAM" in out


def test_the_design_is_shown_with_its_constants_and_parts(simulate: Simulate) -> None:
    code, out, _ = simulate("show", "spatten")
    assert code == 0
    for text in ("0.1871", "horowitz2014.int8_multiply", "ISCA 2021", "qk.multipliers", "0.457 mm2"):
        assert text in out
