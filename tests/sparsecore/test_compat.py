"""torchao's and torch.sparse's calls on the kernels here."""

from __future__ import annotations

import pickle

import pytest
import torch
from sparse_models import assert_product, generator, mlp, pruned
from torch import nn
from torch.nn import functional as F

from sparsecore.compat import SemiStructuredTensor, to_sparse_semi_structured, torchao
from sparsecore.errors import InvalidValueError, PatternError, ShapeError, UnsupportedError
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block


def test_sparsify_replaces_what_the_filter_chooses(seed: int) -> None:
    model = mlp(generator(seed))
    x = torch.randn(5, 64)
    expected = model(x)
    assert torchao.sparsify_(model, torchao.semi_sparse_weight(), lambda module, name: name == "0") is model
    assert isinstance(model[0], SparseLinear) and type(model[3]) is nn.Linear
    torchao.sparsify_(model, torchao.semi_sparse_weight(alg_id=3))
    assert isinstance(model[3], SparseLinear)
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_block_weights(seed: int) -> None:
    model = mlp(generator(seed), Block(16, 16))
    torchao.sparsify_(model, torchao.block_sparse_weight(blocksize=16))
    assert [layer.pattern for layer in model if isinstance(layer, SparseLinear)] == [Block(16, 16)] * 2


def test_a_single_layer_is_returned(seed: int) -> None:
    layer = mlp(generator(seed))[0]
    assert isinstance(torchao.sparsify_(layer, torchao.SemiSparseWeightConfig()), SparseLinear)


def test_a_weight_without_the_pattern_is_named_and_nothing_changes(seed: int) -> None:
    model = mlp(generator(seed))
    with torch.no_grad():
        model[3].weight.fill_(1)
    with pytest.raises(PatternError, match="3"):
        torchao.sparsify_(model, torchao.semi_sparse_weight())
    assert type(model[0]) is nn.Linear


def test_wrong_arguments(seed: int) -> None:
    model = mlp(generator(seed))
    with pytest.raises(InvalidValueError):
        torchao.sparsify_(model, "2:4")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="LayerNorm"):
        torchao.sparsify_(model, torchao.semi_sparse_weight(), lambda module, name: name == "2")


def test_fake_sparsity_then_real(seed: int) -> None:
    model = nn.Sequential(nn.Linear(13, 7), nn.ReLU(), nn.Linear(7, 3))
    torchao.apply_fake_sparsity(model, filter_fn=lambda module, name: name == "0")
    assert int(model[2].weight.count_nonzero()) == 21
    torchao.sparsify_(model, torchao.semi_sparse_weight(), lambda module, name: name == "0")
    assert isinstance(model[0], SparseLinear)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 5), (32, 64), (17, 130)])
def test_products_of_any_shape(rows: int, cols: int, dtype: torch.dtype, seed: int) -> None:
    rng = generator(seed)
    dense = pruned(rows, cols, NM(2, 4), rng, dtype)
    x, bias = torch.randn(6, cols, generator=rng).to(dtype), torch.randn(rows, generator=rng).to(dtype)
    sparse = to_sparse_semi_structured(dense)
    assert torch.equal(sparse.to_dense(), dense)
    assert torch.equal(sparse.t().to_dense(), dense.t())
    assert_product(F.linear(x, sparse, bias), x, dense, bias)
    for y in (x @ sparse.t(), torch.mm(x, sparse.t()), torch.matmul(sparse, x.t()).t(), sparse.mm(x.t()).t()):
        assert_product(y, x, dense, None)
    assert_product(F.linear(x[None], sparse)[0], x, dense, None)


def test_as_the_weight_of_a_linear_layer(seed: int) -> None:
    layer = mlp(generator(seed))[0]
    x = torch.randn(4, 64)
    expected = layer(x)
    layer.weight = nn.Parameter(to_sparse_semi_structured(layer.weight), requires_grad=False)
    assert isinstance(layer.weight, SemiStructuredTensor)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    again = pickle.loads(pickle.dumps(layer.weight.data))
    assert torch.equal(again.to_dense(), layer.weight.to_dense())


def test_what_needs_values_says_so(seed: int) -> None:
    sparse = to_sparse_semi_structured(pruned(8, 8, NM(2, 4), generator(seed)))
    with pytest.raises(UnsupportedError, match="to_dense"):
        sparse + 1
    with pytest.raises(ShapeError):
        to_sparse_semi_structured(torch.zeros(4))
    with pytest.raises(PatternError):
        to_sparse_semi_structured(torch.ones(4, 4))
