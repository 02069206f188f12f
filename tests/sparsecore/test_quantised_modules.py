"""int8 and fp8 layers in models: making, moving, copying, saving, compiling."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from sparse_models import PATTERNS, generator, linear, mlp
from torch import nn

import sparsecore as sc
from sparsecore.errors import CorruptFileError, InvalidValueError
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM

# Type of the values, and the largest error of one as a share of the largest value of its row.
KINDS = {"int8": (torch.int8, 1 / 253), "fp8": (torch.float8_e4m3fn, 1 / 27)}


@pytest.fixture(params=sorted(KINDS))
def values(request) -> str:
    """Name of a type of quantised values, as `sparsify` takes it."""
    return request.param


def kind_of(values: str) -> torch.dtype:
    return KINDS[values][0]


def quantised_mlp(values: str, seed: int, pattern=NM(2, 4)) -> nn.Sequential:  # noqa: B008
    return sc.sparsify(mlp(generator(seed), pattern), dtype=values, min_ratio=0)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.name)
def test_from_dense_keeps_bias_and_type_of_x(values, pattern, seed):
    dense = linear(40, 24, pattern, generator(seed))
    layer = SparseLinear.from_dense(dense, pattern, kind_of(values))
    assert layer.bias is dense.bias
    assert layer.weight_dtype is kind_of(values)
    assert layer.weight.dtype is torch.float32
    assert (layer.weight - dense.weight).abs().max() <= dense.weight.abs().max() * KINDS[values][1]
    x = torch.randn(3, 40, generator=generator(seed))
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        assert layer(x.to(kind)).dtype is kind
    torch.testing.assert_close(layer(x), dense(x), rtol=0.05, atol=0.1 * float(dense(x).detach().abs().max()))


def test_sparsify_and_its_report(values, seed):
    dense = mlp(generator(seed)).bfloat16()
    sizes = {
        name: sum(p.numel() * 2 for p in (module.weight,)) for name, module in dense.named_children() if name in "03"
    }
    model = sc.sparsify(dense, dtype=kind_of(values), min_ratio=0)
    found = sc.report(model)
    named = str(kind_of(values)).removeprefix("torch.")
    assert {row.values for row in found.packed} == {named}
    assert {row.name: row.dense_bytes for row in found.packed} == sizes
    assert named in str(found)
    timed = sc.sparsify(mlp(generator(seed)), torch.randn(2, 64), (1, 2), dtype=values, min_ratio=1e-9)
    assert len(sc.report(timed).packed) == 2
    assert all(row.ratios for row in sc.report(timed).packed)
    with pytest.raises(InvalidValueError, match="float16"):
        sc.sparsify(mlp(generator(seed)), dtype="float16")


def test_a_weight_without_a_quantised_form_stays_dense(values, seed):
    model = mlp(generator(seed))
    with torch.no_grad():
        model[0].weight[0, int(model[0].weight[0].abs().argmax())] = float("inf")
    found = sc.report(sc.sparsify(model, dtype=values, min_ratio=0))
    assert "no scale" in found["0"].reason and not found["0"].packed
    assert found["3"].packed


def test_casts_leave_the_weight_alone_and_copies_are_equal(values, seed):
    model = quantised_mlp(values, seed)
    x = torch.randn(5, 64, generator=generator(seed))
    y = model(x)
    assert torch.equal(copy.deepcopy(model)(x), y)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), y)
    half = copy.deepcopy(model).bfloat16()
    assert half[0].weight_dtype is kind_of(values) and half[0].bias.dtype is torch.bfloat16
    assert torch.equal(half[0].weight, model[0].weight)
    assert half(x.bfloat16()).dtype is torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert model[0](x).dtype is torch.bfloat16
        assert half[0](x).dtype is torch.bfloat16
    widened = model[0].packed.to(dtype=torch.float32)
    assert torch.equal(widened.to_dense(), model[0].weight)


def test_state_dicts(values, seed):
    model, other = quantised_mlp(values, seed), quantised_mlp(values, seed + 1)
    x = torch.randn(5, 64, generator=generator(seed))
    state = model.state_dict()
    assert state["0.compressed"].dtype is kind_of(values) and state["0.scales"].shape == (128,)
    other.load_state_dict(state)
    assert torch.equal(other(x), model(x))
    floats = sc.sparsify(mlp(generator(seed + 1)), min_ratio=0)
    floats.load_state_dict(state)
    assert torch.equal(floats[0].weight, model[0].weight)
    source = mlp(generator(seed + 2))
    other.load_state_dict(source.state_dict())
    assert torch.equal(other[0].weight, SparseLinear.from_dense(source[0], "2:4", kind_of(values)).weight)
    dense = mlp(generator(seed + 1))
    dense.load_state_dict(sc.nn.dense_state_dict(state))
    assert torch.equal(dense[0].weight, model[0].weight)


def test_meta_and_back(values, seed):
    model = quantised_mlp(values, seed)
    empty = copy.deepcopy(model).to("meta")
    assert empty[0].weight_dtype is kind_of(values) and empty[0].weight_device.type == "meta"
    assert empty(torch.empty(2, 64, device="meta")).shape == (2, 64)
    empty.load_state_dict(model.state_dict(), assign=True)
    x = torch.randn(5, 64, generator=generator(seed))
    assert torch.equal(empty(x), model(x))
    fresh = SparseLinear(64, 128, dtype=kind_of(values))
    assert fresh.bias.dtype is torch.float32
    fresh.load_state_dict(model[0].state_dict())
    assert torch.equal(fresh(x), model[0](x))
    emptied = copy.deepcopy(model).to("meta").to_empty(device="cpu")
    emptied.load_state_dict(model.state_dict())
    assert torch.equal(emptied(x), model(x))


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.name)
def test_files(values, tmp_path, pattern, seed):
    model = sc.sparsify(mlp(generator(seed), pattern), dtype=values, min_ratio=0, pattern=pattern)
    sc.save(model, tmp_path / "m.safetensors")
    checkpoint = sc.load(tmp_path / "m.safetensors")
    assert checkpoint.packed["0"].stored.dtype is kind_of(values)
    x = torch.randn(5, 64, generator=generator(seed))
    for target in (mlp(generator(seed + 1), pattern), quantised_mlp(values, seed + 1)):
        loaded = sc.load(tmp_path / "m.safetensors", into=target)
        assert loaded[0].weight_dtype is kind_of(values)
        assert torch.equal(loaded(x), model(x))
    unpacked = sc.load(tmp_path / "m.safetensors", into=mlp(generator(seed + 1), pattern), dense=True)
    assert torch.equal(unpacked[0].weight, model[0].weight)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    assert torch.equal(sc.load(tmp_path / "m.pt", into=mlp(generator(seed + 1), pattern))(x), model(x))


def test_a_damaged_file_is_refused(values, tmp_path, seed):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = tmp_path / "m.safetensors"
    sc.save(quantised_mlp(values, seed), path)
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    for name, change in (
        ("scales", lambda t: -t),
        ("scales", lambda t: t[1:]),
        ("compressed", lambda t: t.fill_(-128 if values == "int8" else float("nan"))),
    ):
        tensors = load_file(path)
        tensors[f"0.{name}"] = change(tensors[f"0.{name}"]).contiguous()
        save_file(tensors, tmp_path / "bad.safetensors", metadata)
        with pytest.raises(CorruptFileError, match=name):
            sc.load(tmp_path / "bad.safetensors")


def test_compile_and_training(values, seed):
    torch.compiler.reset()
    model = quantised_mlp(values, seed)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in (1, 7):
        x = torch.randn(tokens, 64, generator=generator(seed), requires_grad=True)
        y = compiled(x)
        torch.testing.assert_close(y, model(x))
        y.sum().backward()
        assert x.grad is not None and bool(x.grad.isfinite().all())
    source = linear(64, 32, NM(2, 4), generator(seed))
    trained = SparseLinear.from_dense(source, "2:4", kind_of(values), weight_grad=True)
    before = trained.packed.to_dense()
    trained(torch.randn(6, 64)).square().sum().backward()
    torch.optim.SGD(trained.parameters(), lr=1e-3).step()
    trained.repack()
    assert trained.weight_dtype is kind_of(values)
    assert not torch.equal(trained.packed.to_dense(), before)
    assert torch.equal(trained.packed.to_dense() != 0, (trained.packed.to_dense() != 0) & (trained.weight != 0))


def test_a_layer_on_the_meta_device_quantises_a_dense_weight(values, seed, tmp_path):
    dense = nn.Sequential(linear(40, 24, NM(2, 4), generator(seed)))
    sc.save(dense, tmp_path / "dense.safetensors")
    expected = sc.sparsify(copy.deepcopy(dense), dtype=values, min_ratio=0)
    blank = copy.deepcopy(expected).to("meta")
    loaded = sc.load(tmp_path / "dense.safetensors", into=blank)
    state = loaded.state_dict()
    assert all(torch.equal(state[name].float(), tensor.float()) for name, tensor in expected.state_dict().items())
