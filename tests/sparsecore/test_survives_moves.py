"""A sparsified model survives `.to(dtype)`, `.half()`, `.to("meta")`, `.to_empty` and autocast."""

from __future__ import annotations

import copy

import pytest
import torch
from sparse_models import PATTERNS, assert_product, generator, linear, mlp

import sparsecore as sc
from sparsecore.errors import DtypeError
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern, Unstructured


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.name)
def test_to_dtype_and_back_rounds_as_a_dense_layer_does(pattern: Pattern, seed: int) -> None:
    rng = generator(seed)
    dense = linear(40, 24, pattern, rng)
    sparse = SparseLinear.from_dense(dense, pattern)
    x = torch.randn(5, 40, generator=rng)
    for dtype in (torch.bfloat16, torch.float32, torch.float16):
        dense.to(dtype)
        assert sparse.to(dtype) is sparse
        assert sparse.weight_dtype == dtype
        assert sparse.bias is not None
        assert sparse.bias.dtype == dtype
        assert torch.equal(sparse.weight, dense.weight)
        assert_product(sparse(x.to(dtype)), x.to(dtype), dense.weight, dense.bias)


def test_half_and_bfloat16_hold_fewer_bytes(seed: int) -> None:
    model = sc.sparsify(mlp(generator(seed), width=128), min_ratio=0)
    full = sc.report(model).held_bytes
    assert sc.report(model.half()).held_bytes < 0.6 * full
    assert sc.report(model.bfloat16()).rows[0].dense_bytes == 128 * 256 * 2
    assert sc.report(model.float()).held_bytes == full


def test_two_of_four_in_bfloat16_takes_at_most_57_percent(seed: int) -> None:
    dense = linear(512, 512, NM(2, 4), generator(seed), dtype=torch.bfloat16)
    sparse = SparseLinear.from_dense(dense, "2:4")
    assert sparse.packed.stored().nbytes <= 0.57 * 512 * 512 * 2


def test_a_move_takes_the_dense_copy_and_the_leaf_along(seed: int) -> None:
    layer = SparseLinear.from_dense(linear(32, 16, NM(2, 4), generator(seed)), "2:4", weight_grad=True)
    layer.keep_dense_copy(((1, 2),))
    layer.bfloat16()
    x = torch.randn(1, 32, generator=generator(seed)).bfloat16()
    assert layer(x).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.bfloat16
    assert layer.held_bytes == layer.packed.nbytes + 2 * 32 * 16 * 2


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 8), Block(4, 8), Unstructured()], ids=lambda p: p.name)
def test_meta_keeps_sizes_and_comes_back_empty(pattern: Pattern, seed: int) -> None:
    rng = generator(seed)
    model = sc.sparsify(mlp(rng, pattern), min_ratio=0)
    x = torch.randn(3, 64, generator=rng)
    expected, state = model(x), model.state_dict()
    assert model.to("meta") is model
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert {k: (t.shape, t.dtype) for k, t in model.state_dict().items()} == {
        k: (t.shape, t.dtype) for k, t in state.items()
    }
    assert model(torch.empty(2, 5, 64, device="meta")).shape == (2, 5, 64)
    assert model[0].weight.is_meta
    assert model[0].weight.shape == (128, 64)
    with pytest.raises(NotImplementedError, match="meta"):
        model.to("cpu")
    model.to_empty(device="cpu")
    assert not model[0].weight.any()
    model.load_state_dict(state, strict=True)
    assert torch.equal(model(x), expected)


def test_meta_takes_a_state_by_assignment_only(seed: int) -> None:
    source = SparseLinear.from_dense(linear(32, 16, NM(2, 4), generator(seed)), "2:4")
    layer = SparseLinear(32, 16, pattern="2:4", device="meta").bfloat16()
    assert layer.weight.is_meta
    assert layer.weight_dtype == torch.bfloat16
    assert {tensor.dtype for tensor in layer.state_dict().values()} == {torch.bfloat16, torch.uint8, torch.int64}
    with pytest.warns(UserWarning, match="assign=True"):
        layer.load_state_dict(source.state_dict())
    assert layer.weight.is_meta
    layer.load_state_dict(source.state_dict(), assign=True)
    assert torch.equal(layer.weight, source.weight)


def test_a_kept_dense_copy_goes_to_meta_and_comes_back(seed: int) -> None:
    source = SparseLinear.from_dense(linear(32, 16, NM(2, 4), generator(seed)), "2:4")
    layer = SparseLinear(32, 16)
    layer.keep_dense_copy(((0, 4),))
    layer.to("meta")
    assert layer(torch.empty(2, 32, device="meta")).shape == (2, 16)
    layer.to_empty(device="cpu")
    layer.load_state_dict(source.state_dict())
    x = torch.randn(2, 32, generator=generator(seed))
    torch.testing.assert_close(layer(x), source(x))


def test_built_inside_a_device_context() -> None:
    with torch.device("meta"):
        layer = SparseLinear(8, 4, pattern="1:4")
    assert layer.weight_device.type == "meta"
    assert all(tensor.is_meta for tensor in layer.state_dict().values())


def test_a_type_that_weights_cannot_have_changes_nothing(seed: int) -> None:
    layer = SparseLinear.from_dense(linear(16, 8, NM(2, 4), generator(seed)), "2:4")
    with pytest.raises(DtypeError, match="float64"):
        layer.double()
    assert layer.bias is not None
    assert layer.bias.dtype == layer.weight_dtype == torch.float32


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_gives_the_types_of_the_dense_model(weights: torch.dtype, seed: int) -> None:
    rng = generator(seed)
    dense = mlp(rng).to(weights)
    sparse = sc.sparsify(copy.deepcopy(dense), min_ratio=0)
    assert isinstance(sparse[0], SparseLinear)
    x = torch.randn(6, 64, generator=rng, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, expected = sparse(x), dense(x)
        assert sparse[0](x).dtype == torch.bfloat16
    assert y.dtype == expected.dtype == torch.bfloat16
    exact = dense.float()(x)
    # As near to the fp32 result as bfloat16 allows; the packed product rounds once where the dense one may round twice.
    assert (y.float() - exact).norm() <= 3 * torch.finfo(torch.bfloat16).eps * exact.norm()
    y.float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert sparse[0].weight_dtype == weights
