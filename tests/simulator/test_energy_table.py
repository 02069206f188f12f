"""Accelergy's tables instead of the published constants: what they change, what is listed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Simulate

import simulator
from simulator.designs.energy_table import constants_of, replaced_constants
from simulator.designs.registry import design_names
from simulator.errors import ConfigError, FileMissingError, FormatVersionError, InvalidValueError, UnsupportedError
from simulator.exchange.accelergy import read_tables
from simulator.result import Result
from simulator.tech import sram_macro
from simulator.workload import ReadRequest, Workload
from simulator.workload.reader import read_workload

Energies = dict[str, dict[str, float]]  # pJ by component and action


@pytest.fixture(scope="module")
def workload() -> Workload:
    return read_workload("bert-base", ReadRequest(seq_len=24))


def ert(energies: Energies, version: object = "0.4", **more: object) -> dict[str, Any]:
    tables = [
        {"name": name, "actions": [{"name": action, "arguments": None, "energy": pj} for action, pj in actions.items()]}
        for name, actions in energies.items()
    ]
    return {"ERT": {"version": version, "tables": tables, **more}}


def art(areas: dict[str, float], **more: object) -> dict[str, Any]:
    tables = [{"name": name, "area": um2} for name, um2 in areas.items()]
    return {"ART": {"version": 0.3, "tables": tables, **more}}


def written(path: Path, *documents: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({key: value for document in documents for key, value in document.items()}))
    return path


def run(workload: Workload, arch: str = "spatten", *tables: Path, **changes: Any) -> Result:
    return simulator.run(workload, arch, fidelity="analytical", energy_table=tables, **changes)


def energies(result: Result) -> dict[str, float]:
    return {name: item.energy_pj for name, item in result.energy.items()}


def test_an_entry_changes_its_own_component_alone(workload: Workload, tmp_path: Path, seed: int) -> None:
    """With a factor on the macro's own energies SRAM traffic costs that much more, and nothing else changes."""
    factor = 1 + seed % 97 / 10
    table = written(tmp_path / "ert.yaml", ert({"chip.Buffer[0..3].sram": {"read": factor, "write": 2 * factor}}))
    unit = written(tmp_path / "unit.yaml", ert({"chip.sram": {"read": 1.0, "write": 2.0}}))
    plain, one, other = run(workload), run(workload, "spatten", unit), run(workload, "spatten", table)
    for name, pj in energies(plain).items():
        expected = factor * energies(one)[name] if name in ("sram.key", "sram.value") else pj
        assert energies(other)[name] == pytest.approx(expected, rel=1e-12), name


def test_the_published_values_as_a_table_change_nothing(workload: Workload, tmp_path: Path) -> None:
    macro = sram_macro("cacti7_45nm", 4194304, 128)
    settings = {"sram.macro_bytes": 4194304, "sram.bytes": 4194304}
    table = written(
        tmp_path / "t.yaml",
        ert({"sram": {"read": macro.read_pj, "write": macro.write_pj}}),
        art({"sram": macro.area_mm2 * 1e6}),
    )
    plain, given = (run(workload, "systolic", *tables, node=45.0, set=settings) for tables in ((), (table,)))
    assert energies(given) == pytest.approx(energies(plain), rel=1e-12)
    assert [a.mm2 for a in given.area] == pytest.approx([a.mm2 for a in plain.area], rel=1e-12)


def test_dram_accesses_stand_for_all_that_they_cost(workload: Workload, tmp_path: Path) -> None:
    table = written(
        tmp_path / "t.yaml",
        ert({"system.DRAM[1..1]": {"read": 10.0, "write": 1000.0, "leak": 0.0}}),
        {"map": {"dram.read": {"constant": "dram.read", "times": 4.0}}},
    )
    plain, given = run(workload, "systolic"), run(workload, "systolic", table)
    written_ = {"output", "linear_output", "linear_sum"}
    counts = {name: stream.bursts for name, stream in given.streams.items()}
    writes = sum(count for name, count in counts.items() if name in written_)
    reads = sum(counts.values()) - writes
    assert reads > 0
    assert energies(given)["dram.access"] == pytest.approx(40 * reads + 1000 * writes, rel=1e-9)
    assert not {"dram.activation", "dram.movement", "dram.io"} & energies(given).keys()
    for name in ("dram.refresh", "dram.standby_active", "logic.array"):
        assert energies(given)[name] == energies(plain)[name]


def test_what_the_result_says(workload: Workload, tmp_path: Path) -> None:
    table = written(tmp_path / "mine.yaml", ert({"top.sram": {"read": 3.0}, "top.noc": {"hop": 1.0}}))
    result = run(workload, "systolic", table)
    inputs = {item.name: item for item in result.inputs}
    given = inputs["design.technology.constants.sram.read"]
    assert (given.kind, given.source) == ("assumed", "energy table mine.yaml: top.sram.read")
    assert inputs["energy.sram.buffer"].kind == "assumed"
    assert "mine.yaml" in inputs["energy.sram.buffer"].source
    assert inputs["energy.sram.leakage"].kind == "published", "no entry is of it"
    notes = "\n".join(result.notes)
    assert "1 of 16 constants are from it: sram.read" in notes
    assert "that the table does not give: dram.read, dram.write, energy.add_8bit" in notes
    assert "does not use: top.noc.hop" in notes


@pytest.mark.parametrize("arch", design_names())
def test_every_constant_of_every_design_can_be_given(arch: str, tmp_path: Path) -> None:
    constants = constants_of(arch)
    table: Energies = {}
    areas: dict[str, float] = {}
    mapping: dict[str, str] = {}
    for index, (name, unit) in enumerate(constants.items()):
        if unit == "um2":
            areas[f"part{index}"] = 1.0 + index
            mapping[f"part{index}.area"] = name
        else:
            table[f"part{index}"] = {"act": 1.0 + index}
            mapping[f"part{index}.act"] = name
    path = written(tmp_path / "all.yaml", ert(table), art(areas), {"map": mapping})
    if not constants:
        with pytest.raises(UnsupportedError, match="no entry of the tables"):
            replaced_constants(arch, [path])
        return
    found = replaced_constants(arch, [path])
    assert found.changes["technology.constants"].keys() == constants.keys()
    assert constants_of(arch, found.changes) == constants
    assert f"{len(constants)} of {len(constants)} constants" in found.notes[0]


def test_units_arguments_ranges_and_versions(tmp_path: Path) -> None:
    document = ert({"a.b[0..7].c": {"read": 2000.0}}, 0.3, units={"energy": "fJ"})
    document["ERT"]["tables"][0]["actions"] += [
        {"name": "read", "arguments": {"data_delta": delta}, "energy": pj} for delta, pj in ((0, 10.0), (1, 7000.0))
    ]
    areas = art({"a.b[0..7].c": 2.0}, units={"area": "mm^2"})
    tables = read_tables([written(tmp_path / "e.yaml", document), written(tmp_path / "a.yaml", areas)])
    assert tables.entries["a.b[0..7].c.read"].value == 7.0, "the dearest of those that differ in their arguments"
    assert tables.entries["a.b[0..7].c.area"].value == 2e6
    for name in ("c.read", "b.c.read", "A.B.C.read", "a.b[0..7].c.read"):
        assert [entry.name for entry in tables.named(name)] == ["a.b[0..7].c.read"]
    assert tables.named("x.read") == tables.named("read.c") == []


def test_numbers_with_an_exponent(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-05 as text."""
    path = tmp_path / "e.yaml"
    path.write_text("ERT: {version: 0.4, tables: [{name: a, actions: [{name: b, energy: 1e-05}]}]}")
    assert read_tables([path]).entries["a.b"].value == 1e-5


GOOD: Energies = {"top.sram": {"read": 1.0}}


@pytest.mark.parametrize(
    ("documents", "error", "said"),
    [
        ((ert({"sram": {"read": -1.0}}),), ConfigError, "greater than or equal to 0"),
        ((ert({"sram": {"read": float("nan")}}),), ConfigError, "energy"),
        ((art({"sram": -1.0}),), ConfigError, "area"),
        ((ert(GOOD, units={"energy": "kWh"}),), InvalidValueError, "unknown unit 'kWh' of energy"),
        ((ert(GOOD), art({"sram": 1.0}, units={"area": "acre"})), InvalidValueError, "unknown unit 'acre' of area"),
        ((ert(GOOD, "0.2"),), FormatVersionError, "version 0.2"),
        (({"ERT": {"version": 0.4}},), ConfigError, "'tables' is missing"),
        (({"ERT": {"version": 0.4, "tables": [{"name": "x"}]}},), ConfigError, "'actions' is missing"),
        (({"ERT": [1, 2]},), ConfigError, "mapping"),
        (({"architecture": {}},), ConfigError, "the file has no table"),
        ((ert({"noc": {"hop": 1.0}}),), UnsupportedError, "no entry of the tables stands for a constant of spatten"),
        ((ert(GOOD), {"map": {"sram.raed": "sram.read"}}), ConfigError, "no table has an entry 'sram.raed'"),
        ((ert({"a.sram": {"read": 1.0}, "b.sram": {"read": 2.0}}),), ConfigError, "several entries are named"),
        ((ert(GOOD), {"map": {"sram.read": "sram.area"}}), ConfigError, "sram.area is in um2"),
        ((ert(GOOD), {"map": {"sram.read": "sram.raed"}}), UnsupportedError, "did you mean 'sram.read'"),
        ((ert({"dram": {"read": 1.0}}),), ConfigError, "together or not at all"),
        ((ert(GOOD), {"map": {"sram.read": {"constant": "sram.read", "times": 0.0}}}), ConfigError, "times"),
    ],
)
def test_bad_tables(
    documents: tuple[dict[str, Any], ...], error: type[Exception], said: str, tmp_path: Path, workload: Workload
) -> None:
    with pytest.raises(error) as caught:
        run(workload, "spatten", written(tmp_path / "bad.yaml", *documents))
    assert said in str(caught.value)


def test_bad_files(tmp_path: Path, workload: Workload) -> None:
    with pytest.raises(FileMissingError):
        run(workload, "spatten", tmp_path / "absent.yaml")
    text = tmp_path / "x.yaml"
    text.write_text("ERT: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        run(workload, "spatten", text)
    text.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text"):
        run(workload, "spatten", text)
    one, two = (written(tmp_path / name, ert(GOOD)) for name in ("1.yaml", "2.yaml"))
    with pytest.raises(InvalidValueError, match=r"top\.sram\.read is in two files"):
        run(workload, "spatten", one, two)
    with pytest.raises(ConfigError, match=r'as "1\.5 pJ from FILE: NAME"'):
        run(workload, "spatten", set={"technology.constants": {"sram.read": "7"}})


def test_command(tmp_path: Path, simulate: Simulate) -> None:
    energies_ = written(tmp_path / "ert.yaml", ert({"system.mac": {"compute": 0.7}, "system.sram": {"read": 2.0}}))
    areas = written(tmp_path / "art.yaml", art({"system.sram": 5000.0}))
    names = written(tmp_path / "map.yaml", {"map": {"mac.compute": "energy.multiply_8bit"}})
    given = [part for path in (energies_, areas, names) for part in ("--energy-table", path)]
    options = ("bert-base", "--seq-len", 16, "--fidelity", "analytical", "--arch", "spatten", "--arch", "systolic")
    code, out, err = simulate("run", *options, *given, "--json", "-")
    assert (code, err) == (0, "")
    results = json.loads(out)
    for result in results:
        assert any("3 of " in note and "art.yaml" in note for note in result["notes"])
    code, _, err = simulate("run", *options, "--energy-table", areas, "--arch", "cpu")
    assert code == 2
    assert "cpu has no constant of its own to replace" in err
    code, out, err = simulate(
        "sweep",
        options[0],
        *options[3:],
        *given,
        "--vary",
        "seq_len=8,16",
        "--out",
        tmp_path / "sweep",
        "--csv",
        "-",
        "--jobs",
        1,
    )
    assert code == 0, err
    assert len(out.splitlines()) == 5
