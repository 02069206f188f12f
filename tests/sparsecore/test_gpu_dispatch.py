"""How layers on a GPU are judged: by its table, by the user's own, or by a model; and what cannot run says why."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sparsecore
from sparsecore import calibration, dispatch, fallback
from sparsecore.backends.cuda.routes import NO_END, kernel_of, route
from sparsecore.calibration import Calibration, Entry, FormSpeed, path_of, read, stale, write
from sparsecore.dispatch import ACCEPTED, LayerCost, Ratio, predict, speeds, token_grid
from sparsecore.errors import ArchitectureError, CorruptFileError, CudaError, DriverError
from sparsecore.gpu import Gpu
from sparsecore.gpu_model import GpuModel
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.report import Report, Row
from sparsecore.sparsify import _dense_ranges, _expansion_note

CUDA = torch.device("cuda", 0)
A100 = Gpu("NVIDIA A100-SXM4-40GB", (8, 0), 108, 40 * 2**30, torch.__version__)
H200 = Gpu("NVIDIA H200", (9, 0), 132, 141 * 2**30, torch.__version__)


@pytest.fixture(autouse=True)
def one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only CUDA device is an A100, and no cache folder and no package knows it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "_GPUS", tmp_path / "shipped")
    monkeypatch.setattr(dispatch, "describe_gpu", lambda index: A100)
    calibration._nearest_shipped.cache_clear()


def layer(pattern: Pattern, density: float, side: int = 8192, dtype: torch.dtype = torch.bfloat16) -> LayerCost:
    positions = side * side
    packed_bytes = int(positions * (density * dtype.itemsize + 0.125))
    return LayerCost(pattern, density, (side, side), dtype, positions * dtype.itemsize, packed_bytes, device=CUDA)


def measured(speed: float) -> Calibration:
    """A table in which packed layers take 1 / speed of the time of dense ones."""
    slow = FormSpeed(1e-6, 1e12, ((1, 1e-12), (4096, 1e-14)), overlaps=True)
    fast = replace(slow, stream=1e12 * speed, costs=tuple((t, cost / speed) for t, cost in slow.costs))
    entries = (Entry("dense", "bfloat16", 1.0, slow), Entry("2:4", "bfloat16", 0.5, fast))
    return Calibration(A100.kind, "cuda", 1, A100.torch, sparsecore.__version__, entries)


def test_a_model_judges_where_nothing_was_measured() -> None:
    known = speeds(CUDA)
    assert isinstance(known, GpuModel)
    assert known.trust < 1
    assert "nothing was measured" in known.source
    few = predict(layer(NM(2, 4), 0.5), (1, 16))
    assert all(ratio.kind == "predicted" and ACCEPTED < ratio.ratio < 2 / 1.125 for ratio in few)
    # With few tokens fewer bytes are faster; a smaller weight waits for the call.
    eighth, half, tiny = layer(NM(1, 8), 0.125), layer(NM(2, 4), 0.5), layer(NM(1, 8), 0.125, 256)
    assert predict(eighth, (1,))[0].ratio > predict(half, (1,))[0].ratio > predict(tiny, (1,))[0].ratio


@pytest.mark.parametrize("gpu", [A100, H200, replace(A100, capability=(7, 5)), replace(H200, capability=(13, 0))])
def test_unstructured_weights_stay_dense_at_many_tokens(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    monkeypatch.setattr(dispatch, "describe_gpu", lambda index: gpu)
    for density in (0.05, 0.3, 0.5):
        for ratio in predict(layer(Unstructured(), density), token_grid((32, 4096), 2)):
            assert ratio.ratio < ACCEPTED
            assert ratio.expansion_s > 0


def test_kernels_of_sm80_are_not_taken_for_those_of_blackwell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "describe_gpu", lambda index: replace(H200, capability=(10, 3)))
    for pattern, density in ((NM(2, 4), 0.5), (Block(64, 64), 0.5)):
        few, many = predict(layer(pattern, density, 16384), (1, 4096))
        assert few.ratio > 1 and many.ratio < ACCEPTED


def test_both_forms_are_kept_by_the_number_of_tokens() -> None:
    ratios = predict(layer(NM(1, 8), 0.125), token_grid((1, 4096), 2))
    ranges = _dense_ranges(ratios)
    assert ranges == ((32, 2**62),)
    assert all((ratio.ratio < 1) == (ratio.tokens >= 32) for ratio in ratios)


def test_expansion_is_counted_and_told() -> None:
    cost = layer(NM(1, 8), 0.125)
    few, many = predict(cost, (1, 64))
    assert few.expansion_s == 0
    assert route(cost.pattern, cost.dtype, 64) == "expand"
    known = speeds(CUDA)
    assert known is not None
    dense = known.dense(cost.dtype)
    assert dense is not None
    assert many.expansion_s == pytest.approx((cost.packed_bytes + cost.dense_bytes) / dense.stream)
    note = _expansion_note((few, many))
    assert f"{many.expansion_s * 1e6:.0f} us" in note
    assert "64 tokens" in note
    assert _expansion_note((few,)) == ""
    row = Row("fc", "Linear", True, "", "1:8", 0.125, 2, 1, (few, many), "bfloat16")
    assert f"at 64 ({many.expansion_s * 1e6:.0f} us to write the weight out)" in str(Report((row,)))


def test_the_way_of_a_call_is_known_from_sizes() -> None:
    for pattern, dtype in ((NM(2, 4), torch.float16), (Block(64, 32), torch.bfloat16)):
        assert kernel_of(pattern, dtype).tokens == NO_END
        assert route(pattern, dtype, 10**6) == "kernel"
    for pattern in (NM(1, 4), NM(3, 7), Unstructured(), Block(64, 64), Block(3, 5)):
        for dtype in (torch.float32, torch.int8):
            assert route(pattern, dtype, 65) == "expand"
    assert route(NM(1, 4), torch.float32, 17) == "expand"
    assert route(NM(1, 4), torch.int8, 17) == "kernel"
    fp8 = torch.float8_e4m3fn
    for pattern in (NM(2, 4), NM(1, 4), NM(1, 8), NM(2, 8)):
        assert [route(pattern, fp8, tokens, capability=(8, 0)) for tokens in (512, 513)] == ["kernel", "expand"]
    ways = [route(NM(2, 4), fp8, 513, capability=gpu) for gpu in ((8, 9), (9, 0), (10, 0), (12, 0), (12, 1))]
    assert ways == ["kernel", "kernel", "expand", "kernel", "kernel"]
    assert route(NM(2, 8), fp8, 513) == "expand"
    assert kernel_of(NM(2, 16), fp8) is None
    assert kernel_of(NM(2, 4), torch.float16, layout=1000).products == "ordinary"
    assert kernel_of(NM(1, 8), torch.float16).products == "spread"
    assert kernel_of(NM(1, 8), torch.float32).products == kernel_of(NM(3, 7), torch.float16).products == "ordinary"
    assert kernel_of(Block(3, 5), torch.float16) is None


def test_weights_that_share_columns_gain_where_the_kernel_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = replace(layer(NM(2, 8), 0.25), layout=1012)
    plain, gathered = (predict(cost, (8192,))[0] for cost in (layer(NM(2, 8), 0.25), shared))
    assert plain.ratio < 1 < gathered.ratio
    assert plain.expansion_s > 0 == gathered.expansion_s
    monkeypatch.setattr(dispatch, "describe_gpu", lambda index: H200)
    hopper = predict(shared, (8192,))[0]  # activations from L2 bound the kernel there: little gain, little believed
    assert plain.ratio < hopper.ratio < 0.97
    assert hopper.expansion_s == 0


def test_quantised_weights_are_judged_where_tensor_cores_multiply_them(monkeypatch: pytest.MonkeyPatch) -> None:
    int8, fp8 = (replace(layer(NM(2, 4), 0.5), packed_dtype=dtype) for dtype in (torch.int8, torch.float8_e4m3fn))
    assert predict(int8, (8192,))[0].ratio == pytest.approx(GpuModel(A100).trust * 4)
    few, many = predict(fp8, (1, 8192))  # no products of fp8 there for many tokens
    assert few == predict(int8, (1,))[0]
    assert many.ratio < ACCEPTED
    assert many.expansion_s > 0 == few.expansion_s
    monkeypatch.setattr(dispatch, "describe_gpu", lambda index: H200)
    assert predict(fp8, (8192,))[0] == predict(int8, (8192,))[0]
    for pattern in (NM(2, 16), Unstructured(), Block(64, 64)):
        assert predict(replace(fp8, pattern=pattern), (1,))[0].kind == "unknown"


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(2, 8), NM(1, 8)], ids=str)
@pytest.mark.parametrize("values", [torch.int8, torch.float8_e4m3fn], ids=str)
def test_bytes_decide_for_few_tokens_of_bytes(pattern: NM, values: torch.dtype) -> None:
    model, density = GpuModel(A100), pattern.n / pattern.m
    dense, packed = model.dense(torch.bfloat16), model.packed(pattern, density, values)
    assert dense is not None
    assert packed is not None
    positions = 8192 * 28672
    gain = dense.seconds(1, positions, positions * 2) / packed.seconds(1, positions, positions * (density + 1 / 8))
    assert gain == pytest.approx(2 / (density + 1 / 8), rel=0.1)
    assert model.packed(NM(3, 4), 0.75, values) is None


@pytest.mark.parametrize("density", [0.5, 0.1])
def test_blocks_gain_by_what_they_leave_out(density: float) -> None:
    """Many tokens: products of kept blocks alone, at the dense rate."""
    ratio = predict(layer(Block(64, 64), density), (8192,))[0].ratio
    assert ratio == pytest.approx(GpuModel(A100).trust / density)


def test_the_users_table_comes_first_then_the_one_of_the_device_name(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped" / f"{A100.kind}.json"
    write(measured(1.4), shipped)
    calibration._nearest_shipped.cache_clear()
    found = speeds(CUDA)
    assert isinstance(found, Calibration)
    assert found.trust == 0.95
    assert predict(layer(NM(2, 4), 0.5), (4096,))[0].ratio == pytest.approx(0.95 * 1.4, rel=1e-3)
    own = path_of(A100)
    assert own.name == "nvidia-a100-sxm4-40gb-sm80.json"
    write(measured(1.7), own)
    assert speeds(CUDA) == read(own)
    assert predict(layer(NM(2, 4), 0.5), (1, 4096)) == (
        Ratio(1, pytest.approx(1.7 * 2 / 1.125, rel=1e-3), "predicted"),
        Ratio(4096, pytest.approx(1.7, rel=1e-3), "predicted"),
    )
    assert predict(layer(Unstructured(), 0.5), (1,))[0].kind == "unknown"
    old = replace(measured(1.7), torch_version="1.0")
    assert stale(old, A100)
    write(old, own)
    assert speeds(CUDA) == found


def test_a_table_of_another_gpu_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(measured(1.4), tmp_path / "shipped" / f"{A100.kind}.json")
    monkeypatch.setattr(dispatch, "describe_gpu", lambda index: H200)
    assert isinstance(speeds(CUDA), GpuModel)


def test_a_damaged_table_is_named() -> None:
    own = path_of(A100)
    write(measured(1.4), own)
    data = json.loads(own.read_text())
    data["entries"][0]["stream_gb_s"] = -1
    own.write_text(json.dumps(data))
    with pytest.raises(CorruptFileError, match="doctor --calibrate"):
        speeds(CUDA)


def test_other_devices_are_unknown() -> None:
    assert speeds(torch.device("xpu", 0)) is None
    cost = replace(layer(NM(2, 4), 0.5), device=torch.device("xpu", 0))
    assert predict(cost, (1,)) == (Ratio(1, 0.0, "unknown"),)


def cuda_info(**changes: Any) -> Mapping[str, Any]:
    device = {"name": "NVIDIA A100", "capability": (8, 0), "multiprocessors": 108, "memory_bytes": 1}
    return {"compiled": True, "available": True, "reason": "", "devices": [device], **changes}


OLD = {"name": "Tesla T4", "capability": (7, 5), "multiprocessors": 40, "memory_bytes": 1}


@pytest.mark.parametrize(
    ("changes", "index", "error", "said"),
    [
        ({"compiled": False, "available": False}, None, CudaError, "SPARSECORE_CUDA=ON"),
        ({"available": False, "reason": "no CUDA driver"}, 0, DriverError, "no CUDA driver"),
        ({"available": False, "reason": "CUDA driver version is insufficient"}, 0, DriverError, "update the driver"),
        ({"devices": [OLD]}, 0, ArchitectureError, r"Tesla T4 \(7\.5\)"),
        ({"devices": [OLD, *cuda_info()["devices"]]}, 0, ArchitectureError, "8.0 or later"),
        ({"devices": [OLD, *cuda_info()["devices"]]}, 1, None, ""),
        ({"devices": [OLD, *cuda_info()["devices"]]}, None, None, ""),
    ],
)
def test_why_kernels_cannot_run(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], index: int | None, error: type[CudaError], said: str
) -> None:
    monkeypatch.setattr(fallback, "core", SimpleNamespace(cuda_info=lambda: cuda_info(**changes)))
    trouble = fallback.cuda_trouble(index)
    if error is None:
        assert trouble is None
        return
    assert type(trouble) is error
    with pytest.raises(error, match=f"(?s){said}.*{fallback.VARIABLE}=1"):
        fallback.require_allowed(trouble)
    with fallback.allow_torch_fallback():
        fallback.require_allowed(trouble)
    assert not fallback.allowed()
    monkeypatch.setitem(os.environ, fallback.VARIABLE, "1")
    fallback.require_allowed(trouble)
    monkeypatch.setitem(os.environ, fallback.VARIABLE, "0")
    assert not fallback.allowed()


def test_machine_code_runs_on_later_gpus_of_its_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(cuda_info=lambda: cuda_info(architectures=[80, 89, 120]))
    monkeypatch.setattr(fallback, "core", known)
    runs = {c for c in ((8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 3), (12, 0), (12, 1)) if fallback.is_assembled(c)}
    assert runs == {(8, 0), (8, 6), (8, 9), (12, 0), (12, 1)}


def test_a_weight_goes_to_no_gpu_whose_kernels_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = torch.zeros(8, 8)
    gone = SimpleNamespace(cuda_info=lambda: cuda_info(available=False, reason="no CUDA driver"))
    monkeypatch.setattr(fallback, "core", gone)
    with pytest.raises(DriverError, match="no CUDA driver"):
        sparsecore.PackedWeight.from_stored(sparsecore.pack(dense, "2:4"), device="cuda")
