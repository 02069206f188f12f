"""What only a GPU can show of the Python side: models on it, torch's semi-structured tensors, memory, calibration."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from weights import generator, random_weight

import sparsecore as sc
from sparsecore.backends.cuda import device as cuda_device
from sparsecore.calibrate import calibrate
from sparsecore.errors import DeviceMemoryError, UnsupportedError
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Pattern, Unstructured
from sparsecore.semi_structured import to_stored

pytestmark = [
    pytest.mark.skipif(not (torch.cuda.is_available() and cuda_device.available()), reason="no GPU"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor"),
]


def linear(cols: int, rows: int, pattern: Pattern, seed: int) -> nn.Linear:
    layer = nn.Linear(cols, rows, dtype=torch.bfloat16, device="cuda")
    with torch.no_grad():
        layer.weight.copy_(random_weight(rows, cols, pattern, generator(seed), torch.bfloat16))
    return layer


def test_sparsify_packs_and_judges_on_the_gpu(seed: int) -> None:
    model = nn.Sequential(linear(512, 256, NM(2, 4), seed), nn.ReLU(), linear(256, 512, Unstructured(), seed)).eval()
    dense = copy.deepcopy(model)
    x = torch.randn(7, 512, generator=generator(seed)).bfloat16().cuda()
    sc.sparsify(model, min_ratio=0)
    report = sc.report(model)
    assert len(report.packed) == 2
    assert all(isinstance(model[place], SparseLinear) and model[place].packed.isa == "cuda" for place in (0, 2))
    assert "writes it out" in report["2"].reason
    with torch.no_grad():
        torch.testing.assert_close(model(x), dense(x), atol=2e-2, rtol=2e-2)
    measured = copy.deepcopy(dense)
    sc.sparsify(measured, inputs=x, tokens=(1, 64), keep_dense=True)
    for row in sc.report(measured).rows:
        assert all(ratio.kind == "measured" and ratio.ratio > 0 for ratio in row.ratios)
    with torch.no_grad():
        torch.testing.assert_close(measured(x), dense(x), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), Unstructured()], ids=str)
def test_moves_keep_the_weight_bit_for_bit(seed: int, pattern: Pattern) -> None:
    layer = SparseLinear.from_dense(linear(128, 96, pattern, seed), pattern)
    weight = layer.weight
    assert weight.is_cuda
    on_cpu = copy.deepcopy(layer).cpu()
    assert torch.equal(on_cpu.weight, weight.cpu())
    assert torch.equal(on_cpu.cuda().weight, weight)
    other = SparseLinear(128, 96, pattern=pattern, dtype=torch.bfloat16, device="cuda")
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, weight)
    x = torch.randn(3, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, weight.sum(0).expand(3, -1), atol=5e-2, rtol=2e-2)
    with pytest.raises(UnsupportedError, match="cpu"):
        layer(x.detach().cpu())


@pytest.mark.parametrize("cutlass", [True, False])
def test_semi_structured_tensors_of_both_libraries(seed: int, cutlass: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not cutlass and not torch.backends.cusparselt.is_available():
        pytest.skip("torch without cuSPARSELt")
    monkeypatch.setattr(torch.sparse.SparseSemiStructuredTensor, "_FORCE_CUTLASS", cutlass)
    layer = linear(256, 128, NM(2, 4), seed)
    dense = layer.weight.detach().clone()
    layer.weight = nn.Parameter(torch.sparse.to_sparse_semi_structured(dense), requires_grad=False)
    assert torch.equal(to_stored(layer.weight.detach()).unpack(), dense)
    model = nn.Sequential(layer)
    sc.sparsify(model)
    assert torch.equal(model[0].weight, dense)


def test_too_little_memory_is_named(seed: int) -> None:
    layer = SparseLinear.from_dense(linear(64, 64, NM(2, 4), seed), "2:4")
    x = torch.zeros(1, 64, device="cuda", dtype=torch.bfloat16)
    free, _ = torch.cuda.mem_get_info()
    with pytest.raises(DeviceMemoryError, match="fewer tokens"):
        layer(x.expand(free // 64, 64))


def test_calibration_of_a_gpu(seed: int) -> None:
    found = calibrate(cases=[(NM(2, 4), (0.5,))], dtypes=[torch.bfloat16, torch.int8], device="cuda")
    assert (found.isa, found.threads) == ("cuda", 1)
    named = [(entry.form, entry.dtype, entry.speed.overlaps) for entry in found.entries]
    assert named == [("dense", "bfloat16", True), ("2:4", "bfloat16", True), ("2:4", "int8", True)]
