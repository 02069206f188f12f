"""The measured ceilings as a design file: what is written, read by the simulator, kept, and measured again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import simulator
import sparsecore.roofline as module
from simulator.designs.registry import made_names, resolve
from simulator.designs.roofline import Roofline
from sparsecore.errors import UnsupportedError
from sparsecore.machine import describe
from sparsecore.roofline import cpu_file, gpu_file, roofline_text, write_cpu_file


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_the_machine_is_a_design() -> None:
    assert {"cpu", "gpu"} <= set(made_names())
    result = simulator.run("bert-base", "cpu")
    machine = describe()
    assert result.design_description.startswith(f"{machine.cpu}, {machine.isa}, {machine.threads} threads")
    assert result.peak_gops is not None and result.peak_gops > 0
    assert any(note.startswith("measured ceilings: loops of sparsecore") for note in result.notes)
    ceilings = [p for p in resolve("cpu").parameters if p.name.startswith("measured.")]
    assert len(ceilings) == 4
    assert {p.kind for p in ceilings} == {"measured"}


def test_a_file_is_kept_and_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([({32: 5.0, 16: 9.0, 8: 1.0}, 3.0, 1.0), ({32: 4.0, 16: 10.0, 8: 2.0}, 2.0, 0.2)])
    monkeypatch.setattr(module, "cpu_ceilings", lambda threads: next(rates))
    path = cpu_file()
    before = path.read_text()
    assert cpu_file() == path
    assert path.read_text() == before
    assert write_cpu_file() == path
    data = resolve(str(path)).document.data
    assert data["measured"] == {"gops_by_bits": {32: 5.0, 16: 10.0, 8: 2.0}, "read_gb_per_s": 3.0}
    assert "busy" not in data["source"]


def test_what_a_busy_machine_gave_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([({32: 5.0}, 3.0, 0.3), ({32: 50.0}, 30.0, 0.99)])
    monkeypatch.setattr(module, "cpu_ceilings", lambda threads: next(rates))
    assert "30% of the threads' time" in cpu_file().read_text()
    data = resolve(str(cpu_file())).document.data
    assert data["measured"]["gops_by_bits"] == {32: 50.0}
    assert "busy" not in data["source"]
    cpu_file()


def test_names_are_quoted(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(roofline_text("odd", 'a "CPU": #1 (µ)', "loops: 'here'", {32: 12.3456}, 7.0))
    data = resolve(str(path)).document.data
    assert data["description"] == 'a "CPU": #1 (µ): roofline measured here'
    assert data["source"] == "loops: 'here'"
    assert data["measured"]["gops_by_bits"] == {32: 12.35}


def test_each_number_of_threads_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpu_ceilings", lambda threads: ({32: float(threads)}, 1.0, 1.0))
    here = describe()
    monkeypatch.setattr(module, "describe", lambda: dataclasses.replace(here, threads=here.threads + 1))
    other = cpu_file()
    monkeypatch.setattr(module, "describe", lambda: here)
    assert cpu_file() != other


def test_without_a_gpu_its_sheets_are_named() -> None:
    if torch.cuda.is_available():
        assert issubclass(resolve("gpu").design, Roofline)
        return
    with pytest.raises(UnsupportedError, match="sees no CUDA device") as caught:
        gpu_file()
    assert "a100" in caught.value.hint
