"""Design files, `--set`, `--memory` and designs of other packages: what they change, and what bad ones get."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from attention_ops import attention, design
from command import Simulate

from simulator.designs import registry
from simulator.designs.registry import design_names, make, resolve
from simulator.designs.spatten import SpAtten
from simulator.errors import ConfigError, FileMissingError, MissingDependencyError, UnknownNameError


def test_every_number_of_the_shipped_designs_has_a_source() -> None:
    for arch in design_names():
        for parameter in resolve(arch).parameters:
            assert parameter.source != "the design's file", f"{arch}: {parameter.name}"
            assert (parameter.kind == "assumed") == parameter.source.startswith("ours")


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_with_a_base_changes_only_its_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "base: spatten\ntopk: {parallelism: 32}   # because\ndram:\n  channels: 8\n")
    machine, resolved = make(path)
    base = {p.name: p.value for p in resolve("spatten").parameters}
    mine = {p.name: p.value for p in resolved.parameters}
    assert {name for name in mine if mine[name] != base[name]} == {"topk.parallelism", "dram.channels"}
    assert resolved.document.data["name"] == "mine"
    assert machine.memory_spec.organisation.channels == 8
    assert {p.name: p.source for p in resolved.parameters}["topk.parallelism"] == "because"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: spatten\ntopk:\n  paralelism: 3\n", r"line 3, key topk.paralelism|did you mean 'parallelism'"),
        ("base: spatten\ntopk:\n  parallelism: many\n", r"line 3"),
        ("base: spatten\ntopk:\n  parallelism: 0\n", r"line 3"),
        ("base: spatten\ntopk:\n  parallelism: 2.5\n", r"line 3"),
        ("base: spatten\ntopk: 3\n", r"mapping of keys, not 3[\s\S]*line 2"),
        ("base: spaten\n", r"line 1, key base[\s\S]*did you mean 'spatten'"),
        ("name: x\n", "no base"),
        ("base: spatten\nbase: systolic\n", "given twice"),
        ("base: [spatten\n", "not valid YAML"),
        ("base: spatten\nsram: {macro_bytes: 77}\n", "no SRAM macro"),
        ("base: spatten\nenergy: {add_8bit: horowitz2014.int9_add}\n", "int9_add"),
    ],
)
def test_bad_design_files_are_named(text: str, message: str, tmp_path: Path) -> None:
    def use() -> None:
        machine = make(write(tmp_path, text))[0]
        machine.energy(machine.cost(attention(16), None, 0))

    with pytest.raises((ConfigError, UnknownNameError), match=message):
        use()


def test_bases_in_a_circle_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"base: {two}\n")
    two.write_text(f"base: {one}\n")
    with pytest.raises(ConfigError, match="leads back"):
        make(str(one))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dram.chanels": 8}, r"did you mean 'channels'[\s\S]*where: --set dram.chanels=8$"),
        ({"a.b.c": 8}, r"unknown key 'a'[\s\S]*where: --set a.b.c=8$"),
        ({"dram": 8}, r"mapping of keys[\s\S]*where: --set dram=8$"),
        ({"dram.channels": "eight"}, "dram.channels"),
        ({"dram.channels": 3}, r"power of two, not 3[\s\S]*where: --set dram.channels=3$"),
        ({"dram..channels": 8}, "dotted name"),
        ({"clock_ghz": 0}, "clock_ghz"),
        ({"clock_ghz": True}, "clock_ghz"),
        ({"topk.output_hidden": 1}, "output_hidden"),
    ],
)
def test_bad_changes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("spatten", changes)


def test_unknown_designs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'spatten'"):
        make("spaten")
    with pytest.raises(FileMissingError):
        make(str(tmp_path / "no.yaml"))


def test_text_values_are_read_as_yaml() -> None:
    assert design(dram__channels="8").memory_spec.organisation.channels == 8


def test_another_memory_brings_its_own_channels() -> None:
    assert make("spatten", memory="hbm2")[0].memory_spec.organisation.channels == 8
    assert make("spatten", {"dram.channels": 4}, memory="hbm2")[0].memory_spec.organisation.channels == 4


def test_a_design_of_another_package_is_found_and_a_broken_one_is_named(
    monkeypatch: pytest.MonkeyPatch, simulate: Simulate
) -> None:
    def installed(value: str) -> None:
        points = {registry.GROUP: [EntryPoint("theirs", value, registry.GROUP)]}
        monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: points.get(group, []))
        registry._classes.cache_clear()
        registry._files.cache_clear()

    try:
        installed("simulator.designs.spatten:SpAtten")
        assert registry._classes()[0]["theirs"] is SpAtten
        assert registry.broken_designs() == {}
        for value, kind, words in (
            ("no_such_package:Design", MissingDependencyError, "'theirs' cannot be imported: No module"),
            ("simulator.designs.spatten:None_such", MissingDependencyError, "theirs"),
            ("pathlib:Path", ConfigError, "not a Design"),
        ):
            installed(value)
            with pytest.raises(kind, match=words):
                make("theirs")
            assert list(registry.broken_designs()) == ["theirs"]
            assert make("spatten")[0].clock_ghz == 1.0, "the rest works"
            with pytest.raises(UnknownNameError, match="not importable: theirs"):
                make("their")
            code, out, err = simulate("archs")
            assert code == 0
            assert "spatten" in out
            assert "theirs" in err
    finally:
        monkeypatch.undo()
        registry._classes.cache_clear()
        registry._files.cache_clear()
