"""The formula of calibrated speeds, the file that keeps them, and which file holds on a machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sparsecore
from sparsecore import machine
from sparsecore.backends.cuda.routes import kernel_of
from sparsecore.calibrate import GPU_DTYPES, GPU_QUANTISED, calibrate
from sparsecore.calibration import (
    Calibration,
    Entry,
    FormSpeed,
    applicable,
    form_of,
    path_of,
    read,
    shipped,
    stale,
    to_dict,
    write,
)
from sparsecore.errors import CorruptFileError, FileMissingError
from sparsecore.patterns import NM, Block, Unstructured
from sparsecore.samples import dense_layer, random_weight

SPEED = FormSpeed(1e-6, 10e9, ((1, 80e-12), (8, 20e-12), (64, 10e-12)))


def speed(cost: float) -> FormSpeed:
    return FormSpeed(1e-6, 10e9, ((1, 4 * cost), (64, cost)))


def entries() -> tuple[Entry, ...]:
    return (
        Entry("dense", "float32", 1.0, SPEED),
        Entry("2:4", "float32", 0.5, speed(8e-12)),
        Entry("1:4", "float32", 0.25, speed(6e-12)),
        Entry("unstructured", "float32", 0.5, speed(16e-12)),
        Entry("unstructured", "float32", 0.1, speed(4e-12)),
    )


def here() -> Calibration:
    at = machine.describe()
    return Calibration(at.kind, at.isa, at.threads, at.torch, sparsecore.__version__, entries())


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_cost_is_linear_in_logarithms_and_constant_outside() -> None:
    assert SPEED.cost(1) == 80e-12
    assert SPEED.cost(8) == 20e-12
    assert SPEED.cost(64) == SPEED.cost(10**6) == 10e-12
    assert SPEED.cost(2) == pytest.approx(80e-12 * 4 ** (-1 / 3))
    assert SPEED.cost(32) == pytest.approx(20e-12 * 2 ** (-2 / 3))


def test_seconds_are_a_call_and_the_larger_of_bytes_and_arithmetic() -> None:
    # 64 tokens x 1000 positions x 10 ps: 0.64 us; 10^4 bytes at 10 GB/s: 1 us.
    assert SPEED.seconds(64, 1000, 100) == pytest.approx(1e-6 + 0.64e-6)
    assert SPEED.seconds(64, 1000, 10**4) == pytest.approx(1e-6 + 1e-6)


def test_density_between_below_and_above_what_was_calibrated() -> None:
    def cost(density: float) -> float:
        found = here().packed(Unstructured(), density, torch.float32)
        assert found is not None
        return found.cost(64)

    assert cost(0.1) == pytest.approx(4e-12)
    assert cost(0.3) == pytest.approx(10e-12)
    assert cost(0.5) == pytest.approx(16e-12)
    assert cost(1.0) == pytest.approx(32e-12), "in proportion above"
    assert cost(0.01) == pytest.approx(4e-12), "no faster below"


def test_an_unlisted_pattern_is_as_slow_as_the_slowest_of_its_family() -> None:
    found = here().packed(NM(3, 8), 0.375, torch.float32)
    assert found is not None
    # 1:4 in proportion to 0.375: 9 ps; 2:4, calibrated at 0.5, not below its 8 ps.
    assert found.cost(64) == pytest.approx(9e-12)
    assert here().packed(Block(2, 2), 0.5, torch.float32) is None
    assert here().packed(NM(2, 4), 0.5, torch.float16) is None
    assert here().dense(torch.float16) is None


def test_weights_that_share_columns_have_a_form_of_their_own() -> None:
    def cost(pattern: NM, layout: int, *more: Entry) -> float:
        found = replace(here(), entries=(*entries(), *more)).packed(pattern, 0.25, torch.float32, layout)
        assert found is not None
        return found.cost(64)

    plain, shared = (Entry(form, "float32", 0.25, speed(cost)) for form, cost in (("2:8", 7e-12), ("128:2:8", 3e-12)))
    assert form_of(NM(2, 8), 1012) == "128:2:8"
    assert form_of(NM(2, 8), 1003) == "2:8"
    assert cost(NM(2, 8), 1012, plain, shared) == pytest.approx(3e-12)
    assert cost(NM(2, 8), 1003, plain, shared) == cost(NM(2, 8), 1012, plain) == pytest.approx(7e-12)
    assert cost(NM(2, 16), 0, shared) == pytest.approx(8e-12), "not of the family: as slow as 2:4"
    path = path_of(machine.describe())
    write(replace(here(), entries=(shared,)), path)
    assert read(path).entries == (shared,)


def test_layers_to_measure_lie_where_their_weight_does() -> None:
    layer = dense_layer(torch.ones(3, 5, device="meta", dtype=torch.bfloat16))
    assert layer(torch.ones(2, 5, device="meta", dtype=torch.bfloat16)).is_meta
    assert layer.bias.is_meta and layer.bias.dtype is torch.bfloat16


def test_random_weights_share_columns(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = random_weight((300, 80), NM(2, 8), 0.25, torch.float32, generator, shared_rows=128)
    assert torch.equal(NM(2, 8).mask(weight), weight != 0)
    for rows in weight.split(128):
        assert all((group != 0).any(0).sum() <= 4 for group in rows.split(8, 1))


def test_written_and_read_back_under_the_cache_folder(tmp_path: Path) -> None:
    path = path_of(machine.describe())
    assert path.is_relative_to(tmp_path / "sparsecore")
    write(here(), path)
    assert to_dict(read(path)) == to_dict(here())
    assert applicable() == read(path)
    faster = replace(here(), entries=(replace(entries()[0], speed=speed(1e-12)), *entries()[1:]))
    write(faster, path)
    assert applicable() == read(path) != here(), "a file written anew is read anew"


@pytest.mark.parametrize("field", ["kind", "threads", "torch_version", "version"])
def test_a_stale_file_is_passed_over(field: str) -> None:
    at = machine.describe()
    old = replace(here(), **{field: 999 if field == "threads" else "other"})
    assert stale(old, at)
    assert not stale(here(), at)
    write(old, path_of(at))
    found = applicable()
    assert found is not None
    assert found.source != old.source
    assert found.trust < 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("entries"),
        lambda d: d.update(format="9.0"),
        lambda d: d.update(threads="two"),
        lambda d: d.update(kind=7),
        lambda d: d.update(entries=[3]),
        lambda d: d["entries"][0].update(stream_gb_s=0),
        lambda d: d["entries"][0].update(call_ns=-1.0),
        lambda d: d["entries"][0].update(density=1.5),
        lambda d: d["entries"][0].update(form="3 of 4"),
        lambda d: d["entries"][0].update(cost_ps={}),
        lambda d: d["entries"][0].update(cost_ps={"8": 1.0, "1": 2.0}),
        lambda d: d["entries"][0].update(cost_ps={"1": float("nan")}),
    ],
)
def test_a_damaged_file_is_named(damage: object) -> None:
    path = path_of(machine.describe())
    data = json.loads(json.dumps(to_dict(here())))
    damage(data)  # type: ignore[operator]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(data))
    with pytest.raises(CorruptFileError, match="doctor --calibrate") as raised:
        applicable()
    assert str(path) in str(raised.value)


def test_no_file_and_cut_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        read(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"format": "1.0"')
    with pytest.raises(CorruptFileError, match="doctor --calibrate"):
        read(tmp_path / "cut.json")


def test_what_ships_is_trusted_less_the_farther_its_machine_is() -> None:
    at = machine.describe()
    for one in shipped():
        on_its_own = applicable(replace(at, isa=one.isa, threads=one.threads, cpu="another"))
        assert on_its_own is not None
        assert on_its_own.trust < 0.9
        assert on_its_own.entries == one.entries
        assert one.source
    assert applicable(replace(at, isa="sve")) is None
    assert {one.isa for one in shipped()} == {"portable", "avx2", "avx512", "amx"}


def test_int8_is_calibrated_against_dense_fp32() -> None:
    found = calibrate(cases=[(NM(2, 4), (0.5,))], dtypes=[torch.int8])
    assert [(e.form, e.dtype) for e in found.entries] == [("2:4", "int8")]


def test_a_gpu_is_calibrated_for_the_quantised_weights_that_have_kernels() -> None:
    for dtype in (torch.int8, torch.float8_e4m3fn):
        assert dtype in GPU_DTYPES
        assert all(kernel_of(pattern, dtype) is not None for pattern, _ in GPU_QUANTISED)
        assert kernel_of(Unstructured(), dtype) is None


def test_calibrating_measures_both_forms(seed: int) -> None:
    names: list[str] = []
    torch.manual_seed(seed)
    expected = torch.rand(3)
    torch.manual_seed(seed)
    found = calibrate(names.append, cases=[(NM(2, 4), (0.5,)), (Unstructured(), (0.1,))], dtypes=[torch.float32])
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers stay"
    assert names == ["float32 2:4 0.5", "float32 unstructured 0.1"]
    assert not stale(found, machine.describe())
    assert [(e.form, e.density) for e in found.entries] == [("dense", 1.0), ("2:4", 0.5), ("unstructured", 0.1)]
    path = path_of(machine.describe())
    write(found, path)
    assert [e.form for e in read(path).entries] == [e.form for e in found.entries], "every number is in range"
