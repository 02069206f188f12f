"""Semi-structured tensors of torch wherever a weight is taken; torch's converter runs on the CPU and is the oracle."""

from __future__ import annotations

import pytest
import torch
from sparse_models import generator, linear, pruned
from torch import Tensor, nn
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

import sparsecore as sc
from sparsecore.compat import to_sparse_semi_structured
from sparsecore.errors import CorruptFileError, DtypeError, PatternError, UnsupportedError
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Unstructured
from sparsecore.semi_structured import natural_pattern, to_stored

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor")
HALVES = (torch.float16, torch.bfloat16)
SHAPES = ((32, 64), (64, 192), (160, 64), (96, 512))


def cutlass(dense: Tensor) -> SparseSemiStructuredTensorCUTLASS:
    packed, meta = sparse_semi_structured_from_dense_cutlass(dense)
    return SparseSemiStructuredTensorCUTLASS(dense.shape, packed, meta, None, None, None)


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_positions_are_those_of_the_tensor(seed: int, shape: tuple[int, int], dtype: torch.dtype) -> None:
    rng = generator(seed)
    tensor = cutlass(pruned(*shape, NM(2, 4), rng, dtype))
    # Kept zeros of both signs, as the compressor of CUTLASS keeps them.
    drawn = torch.randint(0, 4, tensor.packed.shape, generator=rng)
    tensor.packed.masked_fill_(drawn == 0, -0.0).masked_fill_(drawn == 1, 0.0)
    stored = to_stored(tensor)
    assert (stored.pattern, stored.shape, stored.dtype) == (NM(2, 4), shape, dtype)
    assert torch.equal(bits(stored.tensors["compressed"]), bits(tensor.packed))
    kept = sparse_semi_structured_to_dense_cutlass(torch.ones_like(tensor.packed), tensor.meta) != 0
    assert torch.equal(stored.keep_mask(), kept)
    assert torch.equal(bits(stored.unpack()), bits(sparse_semi_structured_to_dense_cutlass(tensor.packed, tensor.meta)))
    packed = sc.PackedWeight.from_dense(tensor, "2:4")
    assert torch.equal(bits(packed.stored().tensors["compressed"]), bits(tensor.packed))


@pytest.mark.parametrize("shape", [(32, 32), (64, 96)])
def test_fp32_is_one_of_two_and_two_of_four(seed: int, shape: tuple[int, int]) -> None:
    dense = pruned(*shape, NM(1, 2), generator(seed))
    tensor = cutlass(dense)
    for pattern in (None, NM(2, 4)):
        stored = to_stored(tensor, pattern)
        assert stored.pattern == (pattern or NM(1, 2))
        assert torch.equal(stored.unpack(), dense)
        assert torch.equal(stored.tensors["compressed"], tensor.packed)


def test_other_patterns_have_to_hold(seed: int) -> None:
    dense = pruned(32, 64, NM(1, 4), generator(seed), torch.float16)
    tensor = cutlass(dense)
    for pattern in (NM(1, 4), Unstructured()):
        assert torch.equal(sc.pack(tensor, pattern).unpack(), dense)
    assert sc.pack(tensor, "2:4", torch.bfloat16).dtype is torch.bfloat16
    assert torch.equal(sc.pack(tensor, "2:4", torch.int8).unpack(), sc.pack(dense, "2:4", torch.int8).unpack())
    full = cutlass(torch.ones(32, 64, dtype=torch.float16) * (torch.arange(64) % 4 < 2))
    with pytest.raises(PatternError, match="1:4"):
        sc.pack(full, "1:4")


def test_layers_state_dicts_and_compat_take_them(seed: int) -> None:
    rng = generator(seed)
    plain = linear(64, 32, NM(1, 2), rng)
    layer = linear(64, 32, NM(1, 2), rng)
    layer.weight = nn.Parameter(cutlass(plain.weight.detach()), requires_grad=False)
    layer.bias = plain.bias
    x = torch.randn(3, 64, generator=rng)
    torch.testing.assert_close(SparseLinear.from_dense(layer, "1:2")(x), plain(x))
    leaf = SparseLinear.from_dense(layer, "2:4", weight_grad=True)
    assert torch.equal(leaf.weight, plain.weight)
    loaded = SparseLinear(64, 32, pattern="1:2")
    loaded.load_state_dict(layer.state_dict())
    assert torch.equal(loaded.weight, plain.weight)
    assert torch.equal(to_sparse_semi_structured(layer.weight).to_dense(), plain.weight)


def test_sparsify_converts_them_whatever_else_it_decides(seed: int) -> None:
    rng = generator(seed)
    model = nn.ModuleDict({name: linear(64, 64, NM(2, 4), rng, dtype=torch.float16) for name in ("a", "b", "c", "d")})
    dense = {name: layer.weight.detach().clone() for name, layer in model.items()}
    for name in ("a", "b", "d"):
        model[name].weight = nn.Parameter(cutlass(dense[name]), requires_grad=False)
    model["d"].weight.packed_t = model["d"].weight.packed
    sc.sparsify(model, min_ratio=1e9, filter_fn=lambda module, name: name != "b")
    report = sc.report(model)
    assert report["a"].packed
    assert "semi-structured tensor of torch" in report["a"].reason
    assert report["a"].density == 0.5
    assert torch.equal(model["a"].weight, dense["a"])
    assert not report["b"].packed
    assert "excluded" in report["b"].reason
    assert report["c"].reason.startswith("slower")
    assert "for training" in report["d"].reason


def test_other_forms_are_refused_by_name(seed: int) -> None:
    dense = pruned(32, 64, NM(2, 4), generator(seed), torch.float16)
    tensor = cutlass(dense)
    blob = SparseSemiStructuredTensorCUSPARSELT(dense.shape, torch.zeros(36 * 32), None, None, None, None)
    for pack in (sc.pack, sc.PackedWeight.from_dense):
        with pytest.raises(UnsupportedError, match=r"(?s)cuSPARSELt.*GPU.*to_dense"):
            pack(blob, "2:4")
    with pytest.raises(UnsupportedError, match="transposed"):
        to_stored(tensor.t())
    training = SparseSemiStructuredTensorCUTLASS(dense.shape, tensor.packed, tensor.meta, tensor.packed, None, None)
    with pytest.raises(UnsupportedError, match="training"):
        to_stored(training)
    with pytest.raises(DtypeError, match="scale"):
        to_stored(cutlass((pruned(32, 128, NM(2, 4), generator(seed)) * 9).to(torch.int8)))
    with pytest.raises(CorruptFileError, match=r"(?s)code.*layer\.weight"):
        to_stored(
            SparseSemiStructuredTensorCUTLASS(dense.shape, tensor.packed, torch.zeros_like(tensor.meta), *[None] * 3),
            where="layer.weight",
        )
    with pytest.raises(CorruptFileError, match="damaged"):
        to_stored(SparseSemiStructuredTensorCUTLASS(dense.shape, tensor.packed[:, :8], tensor.meta, *[None] * 3))


def test_the_natural_pattern() -> None:
    assert natural_pattern(torch.float32) == NM(1, 2)
    assert natural_pattern(torch.bfloat16) == NM(2, 4)
