"""SparseLinear is a drop-in for nn.Linear and Conv1D, and its state loads strictly both ways."""

from __future__ import annotations

import random

import pytest
import torch
from sparse_models import PATTERNS, assert_product, generator, linear, mlp, pruned
from torch import nn

from sparsecore.errors import DtypeError, NamedError, PatternError, ShapeError, UnsupportedError
from sparsecore.nn import SparseLinear, dense_state_dict
from sparsecore.packed import PackedWeight
from sparsecore.patterns import NM, Block, Pattern, Unstructured

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
named = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.name)


@named
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_computes_what_the_dense_layer_computes(pattern: Pattern, dtype: torch.dtype, seed: int) -> None:
    rng, sizes = generator(seed), random.Random(seed)
    dense = linear(sizes.randint(1, 90), sizes.randint(1, 90), pattern, rng, bias=sizes.random() < 0.7, dtype=dtype)
    sparse = SparseLinear.from_dense(dense, pattern)
    for rank in ((), (0,), (sizes.randint(1, 40),), (2, 3), (2, 0, 3), (2, 1, 3, 2)):
        x = torch.randn(*rank, dense.in_features, generator=rng).to(dtype)
        y = sparse(x)
        assert y.dtype == dtype
        assert y.shape == (*rank, dense.out_features)
        assert_product(y.reshape(-1, dense.out_features), x.reshape(-1, dense.in_features), dense.weight, dense.bias)


@named
def test_weight_is_the_dense_weight_bit_for_bit_and_read_only(pattern: Pattern, seed: int) -> None:
    dense = linear(33, 20, pattern, generator(seed))
    sparse = SparseLinear.from_dense(dense, pattern)
    assert torch.equal(sparse.weight, dense.weight)
    assert (sparse.in_features, sparse.out_features) == (33, 20)
    assert sparse.bias is dense.bias
    assert sparse.weight.dtype == sparse.weight_dtype == torch.float32
    assert sparse.weight.device == sparse.weight_device
    assert sparse.weight.shape == sparse.weight_shape
    with pytest.raises((AttributeError, KeyError)):
        sparse.weight = torch.zeros(20, 33)  # type: ignore[misc]
    with pytest.raises((AttributeError, KeyError)):
        sparse.weight = nn.Parameter(torch.zeros(20, 33))  # type: ignore[misc]


def test_density_is_the_share_of_kept_positions(seed: int) -> None:
    rng = generator(seed)
    for pattern in (NM(2, 4), NM(3, 7), Block(4, 8), Block(3, 5), Unstructured()):
        weight = pruned(29, 41, pattern, rng)
        layer = SparseLinear.from_packed(PackedWeight.from_dense(weight, pattern))
        assert layer.density == pytest.approx(pattern.density(weight), abs=1e-12), pattern


def test_repr_names_sizes_pattern_and_type() -> None:
    text = repr(SparseLinear(8, 4, bias=False, pattern="block 2x2", dtype=torch.bfloat16))
    for part in ("in_features=8", "out_features=4", "bias=False", "pattern=block 2x2", "dtype=torch.bfloat16"):
        assert part in text


def test_new_layer_holds_zeros_until_a_state_is_loaded(seed: int) -> None:
    dense = linear(16, 12, NM(1, 4), generator(seed))
    layer = SparseLinear(16, 12, pattern=NM(1, 4))
    assert torch.equal(layer(torch.ones(3, 16)), torch.zeros(3, 12))
    layer.load_state_dict(dense.state_dict())
    assert torch.equal(layer.weight, dense.weight)


def test_conv1d_keeps_its_orientation(seed: int) -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D(24, 16)
    rng = generator(seed)
    with torch.no_grad():
        conv1d.weight.copy_(pruned(24, 16, NM(2, 4), rng).t())
        conv1d.bias.copy_(torch.randn(24, generator=rng))
    sparse = SparseLinear.from_dense(conv1d, "2:4")
    x = torch.randn(2, 5, 16, generator=rng)
    torch.testing.assert_close(sparse(x), conv1d(x))
    assert sparse.weight.shape == conv1d.weight.shape == sparse.weight_shape
    assert torch.equal(sparse.weight, conv1d.weight)
    again = SparseLinear.from_dense(conv1d, "2:4")
    again.load_state_dict(conv1d.state_dict())
    assert torch.equal(again.weight, conv1d.weight)
    back = dense_state_dict(sparse.state_dict(), like=conv1d)
    conv1d.load_state_dict(back, strict=True)
    assert torch.equal(back["weight"], sparse.weight)


def test_other_type_on_request(seed: int) -> None:
    dense = linear(32, 16, NM(2, 4), generator(seed))
    sparse = SparseLinear.from_dense(dense, "2:4", dtype=torch.bfloat16)
    assert sparse.weight_dtype == torch.bfloat16
    assert sparse.bias is not None
    assert sparse.bias.dtype == torch.bfloat16
    assert torch.equal(sparse.weight, dense.weight.to(torch.bfloat16))
    assert dense.weight.dtype == torch.float32


def test_state_dict_has_the_stored_tensors_and_the_bias(seed: int) -> None:
    model = nn.ModuleDict({"p": SparseLinear.from_dense(linear(16, 8, NM(2, 4), generator(seed)), "2:4")})
    state = model.state_dict()
    assert set(state) == {"p.shape", "p.compressed", "p.bitmask", "p.bias"}
    assert state["p.shape"].tolist() == [8, 16]
    assert state["p.compressed"].shape == (8, 8)
    assert state["p.bitmask"].shape == (8, 2)
    assert [name for name, _ in model.named_parameters()] == ["p.bias"]
    assert not list(model.buffers())


@named
def test_strict_load_sparse_into_sparse_and_dense_both_ways(pattern: Pattern, seed: int) -> None:
    rng = generator(seed)
    source, other = mlp(rng, pattern, 24), mlp(rng, pattern, 24)
    packed = nn.Sequential(*(_packed(m, pattern) for m in source))
    fresh = nn.Sequential(*(_packed(m, pattern) for m in other))
    x = torch.randn(4, 24, generator=rng)
    expected = packed(x)
    fresh.load_state_dict(packed.state_dict(), strict=True)
    assert torch.equal(fresh(x), expected)
    # dense -> packed
    fresh = nn.Sequential(*(_packed(m, pattern) for m in other))
    fresh.load_state_dict(source.state_dict(), strict=True)
    assert torch.equal(fresh(x), expected)
    # packed -> dense
    other.load_state_dict(dense_state_dict(packed.state_dict(), like=other), strict=True)
    assert all(
        torch.equal(a, b) for a, b in zip(other.state_dict().values(), source.state_dict().values(), strict=True)
    )


def _packed(module: nn.Module, pattern: Pattern) -> nn.Module:
    return SparseLinear.from_dense(module, pattern) if isinstance(module, nn.Linear) else module


def test_a_dense_state_off_the_pattern_names_the_layer(seed: int) -> None:
    model = nn.ModuleDict({"up": SparseLinear(16, 8, pattern="2:4")})
    state = {"up.weight": torch.randn(8, 16, generator=generator(seed)), "up.bias": torch.zeros(8)}
    with pytest.raises(PatternError, match="up: row 0"):
        model.load_state_dict(state)


def test_wrong_missing_and_unexpected_entries_are_told(seed: int) -> None:
    model = nn.ModuleDict({"up": SparseLinear(16, 8, pattern="2:4")})
    good = dict(SparseLinear.from_dense(linear(16, 8, NM(2, 4), generator(seed)), "2:4").state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*up\.weight"):
        model.load_state_dict({"up.bias": torch.zeros(8)})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*up\.other"):
        model.load_state_dict({**{f"up.{k}": v for k, v in good.items()}, "up.other": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*up\.weight"):
        model.load_state_dict({**{f"up.{k}": v for k, v in good.items()}, "up.weight": torch.zeros(8, 16)})
    with pytest.raises(ShapeError, match="up"):
        model.load_state_dict({"up.weight": torch.zeros(8, 12), "up.bias": torch.zeros(8)})
    other = SparseLinear(12, 8, pattern="2:4").state_dict()
    with pytest.raises(ShapeError, match="up"):
        model.load_state_dict({f"up.{k}": v for k, v in other.items()})
    damaged = {**good, "bitmask": torch.full_like(good["bitmask"], 255)}
    with pytest.raises(NamedError, match="up"):
        model.load_state_dict({f"up.{k}": v for k, v in damaged.items()})


def test_loading_converts_to_the_type_of_the_layer_unless_assigned(seed: int) -> None:
    state = SparseLinear.from_dense(linear(16, 8, NM(2, 4), generator(seed)), "2:4").state_dict()
    layer = SparseLinear(16, 8, dtype=torch.bfloat16)
    layer.load_state_dict(state)
    assert layer.weight_dtype == torch.bfloat16
    layer.load_state_dict(state, assign=True)
    assert layer.weight_dtype == torch.float32
    assert torch.equal(layer.packed.stored().tensors["compressed"], state["compressed"])


def test_a_state_in_another_pattern_is_taken_as_it_is(seed: int) -> None:
    source = SparseLinear.from_dense(linear(16, 8, NM(1, 4), generator(seed)), "1:4")
    layer = SparseLinear(16, 8, pattern="2:4")
    layer.load_state_dict(source.state_dict())
    assert layer.pattern == NM(1, 4)
    assert torch.equal(layer.weight, source.weight)


def test_state_of_experts_needs_a_model_to_be_stacked(seed: int) -> None:
    state = SparseLinear.from_dense(linear(16, 8, NM(2, 4), generator(seed)), "2:4").state_dict()
    named_state = {f"experts.up.0.{k}": v for k, v in state.items() if k != "bias"}
    assert set(dense_state_dict(named_state)) == {"experts.up.0.weight"}
    written_elsewhere = {f"p.weight.{k}": v for k, v in state.items() if k != "bias"}
    assert set(dense_state_dict(written_elsewhere)) == {"p.weight"}


def test_pruned_positions_stay_silent_where_x_is_not_finite(seed: int) -> None:
    rng = generator(seed)
    weight = pruned(12, 16, NM(2, 4), rng)
    weight[:, 5] = 0  # pruned in every row, whatever was kept beside it
    layer = nn.Linear(16, 12, bias=False)
    layer.weight = nn.Parameter(weight)
    sparse = SparseLinear.from_dense(layer, Unstructured())
    x = torch.randn(3, 16, generator=rng)
    clean = sparse(x)
    x[0, 5], x[1, 5], x[2, 5] = float("inf"), float("nan"), float("-inf")
    assert torch.equal(sparse(x), sparse(torch.where(x.isfinite(), x, 0)))
    assert clean.isfinite().all()
    # The kept dense copy computes as nn.Linear does: this tells which of the two forms served a call.
    sparse.keep_dense_copy(((2, 3),))
    assert sparse(x[:1]).isfinite().all()
    assert not sparse(x[:2]).isfinite().any()
    assert sparse(x).isfinite().all()
    assert sparse.held_bytes == sparse.packed.nbytes + weight.numel() * 4
    assert "keep_dense=True" in repr(sparse)


def test_weight_gradient_on_request(seed: int) -> None:
    rng = generator(seed)
    dense = linear(32, 16, NM(2, 4), rng)
    sparse = SparseLinear.from_dense(dense, "2:4", weight_grad=True)
    assert sparse.held_bytes == sparse.packed.nbytes + 32 * 16 * 4
    assert dict(sparse.named_parameters()).keys() == {"weight", "bias"}
    x, grad = torch.randn(5, 32, generator=rng), torch.randn(5, 16, generator=rng)
    sparse(x).backward(grad)
    torch.testing.assert_close(sparse.weight.grad, grad.t() @ x)
    optimiser = torch.optim.SGD([sparse.weight], lr=0.1)
    kept = sparse.packed.to_dense() != 0
    before = sparse(x)
    optimiser.step()
    assert torch.equal(sparse(x), before), "the packed weight changes at repack() only"
    sparse.repack()
    expected = torch.where(kept, dense.weight - 0.1 * (grad.t() @ x), 0)
    torch.testing.assert_close(sparse.weight.detach(), expected)
    assert_product(sparse(x), x, sparse.weight, sparse.bias)
    # The leaf is no second weight: the state has the packed one, and loading sets both.
    state = sparse.state_dict()
    assert "weight" not in state
    other = SparseLinear.from_dense(dense, "2:4", weight_grad=True)
    other.load_state_dict(state, strict=True)
    assert torch.equal(other.weight, sparse.weight)


@pytest.mark.parametrize("sizes", [(0, 4), (4, 0), (1, 1)], ids=str)
def test_layers_without_elements(sizes: tuple[int, int]) -> None:
    layer = SparseLinear(*sizes, pattern="2:4")
    assert layer(torch.ones(3, sizes[0])).shape == (3, sizes[1])
    again = SparseLinear(*sizes, pattern="2:4")
    again.load_state_dict(layer.state_dict(), strict=True)
    assert again.weight.shape == (sizes[1], sizes[0])


def test_wrong_arguments_are_named(seed: int) -> None:
    rng = generator(seed)
    with pytest.raises(UnsupportedError, match="Conv2d"):
        SparseLinear.from_dense(nn.Conv2d(4, 4, 1), "2:4")
    with pytest.raises(PatternError, match="2:4"):
        SparseLinear.from_dense(nn.Linear(16, 8), "2:4")
    for dtype in ("int8", torch.uint8, torch.float64):
        with pytest.raises(DtypeError, match="are not supported"):
            SparseLinear.from_dense(nn.Linear(16, 8), "unstructured", dtype)
        with pytest.raises(DtypeError, match="are not supported"):
            SparseLinear(16, 8, dtype=dtype)
    packed = PackedWeight.from_dense(pruned(8, 16, NM(2, 4), rng), NM(2, 4))
    with pytest.raises(ShapeError, match="bias"):
        SparseLinear.from_packed(packed, nn.Parameter(torch.zeros(16)))
    layer = SparseLinear.from_packed(packed)
    with pytest.raises(ShapeError):
        layer(torch.zeros(2, 12))
    with pytest.raises(DtypeError):
        layer(torch.zeros(2, 16, dtype=torch.float64))
