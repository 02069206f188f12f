"""sparsecore.save and sparsecore.load with models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

import sparsecore as sc
from sparsecore.errors import (
    DtypeError,
    FileMissingError,
    InvalidValueError,
    KeyMismatchError,
    PatternError,
    ShapeError,
    UnsupportedError,
)
from sparsecore.io import LoadedCheckpoint, PackedEntry
from sparsecore.patterns import parse

PATTERNS = ("2:4", "1:8", "3:6", "block 8x8", "block 5x3", "unstructured")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def dense_model(seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(40, 52), nn.GELU(), nn.Linear(52, 24, bias=False), nn.LayerNorm(24)).to(dtype)


def packed_model(seed: int, pattern: str = "2:4", dtype: torch.dtype = torch.float32) -> nn.Sequential:
    model = dense_model(seed, dtype)
    sc.prune.one_shot(model, pattern=pattern, sparsity=0.75)
    for name in ("0", "2"):
        model.set_submodule(name, sc.nn.SparseLinear.from_dense(model.get_submodule(name), pattern))
    return model


def dense_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in sc.nn.dense_state_dict(model.state_dict(), like=model).items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_packed_model_comes_back_bit_for_bit(tmp_path: Path, seed: int, pattern: str, dtype: torch.dtype) -> None:
    model = packed_model(seed, pattern, dtype)
    sc.save(model, tmp_path / "m.safetensors")
    checkpoint = sc.load(tmp_path / "m.safetensors")
    assert same(dict(checkpoint), dense_state(model))
    assert checkpoint.pattern("0.weight") == parse(pattern)
    fresh = sc.load(tmp_path / "m.safetensors", into=dense_model(seed + 1, dtype))
    assert isinstance(fresh[0], sc.nn.SparseLinear)
    assert isinstance(fresh[2], sc.nn.SparseLinear)
    assert fresh[0].pattern.name == fresh[2].pattern.name == pattern
    assert same(fresh.state_dict(), model.state_dict())
    x = torch.randn(3, 40, dtype=dtype)
    assert torch.equal(fresh(x), model(x))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_weight_comes_back_bit_for_bit(tmp_path: Path, data: st.DataObject) -> None:
    """Ragged and empty shapes; NaN, infinity, negative zero and the smallest numbers among the kept values."""
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 40))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    weight = torch.randn(shape, generator=generator).to(dtype)
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1e-40, 6e-8]).to(dtype)
    chosen = torch.rand(shape, generator=generator) < 0.2
    weight[chosen] = special[torch.randint(0, len(special), (int(chosen.sum()),), generator=generator)]
    pattern = parse(data.draw(st.sampled_from((*PATTERNS, "1:2", "1:32", "31:32", "block 1x8", "block 64x64"))))
    if shape[0] * shape[1]:
        sc.prune.prune_tensors({"p": weight}, pattern=pattern, sparsity=data.draw(st.sampled_from((0.0, 0.5, 0.9))))
    entry = PackedEntry(sc.pack(weight, pattern), transposed=data.draw(st.booleans()))
    sc.save(LoadedCheckpoint("test", "state dict", {}, {"p": entry}), tmp_path / "m.safetensors")
    found = sc.load(tmp_path / "m.safetensors").packed["p"]
    assert (found.stored.pattern, found.stored.shape, found.transposed) == (pattern, shape, entry.transposed)
    # A pruned position may hold a zero of either sign and comes back as +0 (docs/formats.md); nothing else may change.
    expected = weight.clone()
    expected[~found.stored.keep_mask() & (weight == 0)] = 0
    assert torch.equal(found.stored.unpack().view(torch.uint8), expected.view(torch.uint8))


def test_the_file_holds_the_stored_tensors_and_nothing_twice(tmp_path: Path, seed: int) -> None:
    model = packed_model(seed)
    sc.save(model, tmp_path / "m.safetensors")
    tensors = load_file(tmp_path / "m.safetensors")
    expected = {"0.shape", "0.compressed", "0.bitmask", "0.bias", "2.shape", "2.compressed", "2.bitmask"}
    assert set(tensors) == expected | {"3.weight", "3.bias"}
    # What state_dict gives is what the file holds, so that plain torch can read it back.
    fresh = packed_model(seed + 1)
    fresh.load_state_dict(tensors)
    assert same(fresh.state_dict(), model.state_dict())


def test_dense_unpacks_into_plain_layers(tmp_path: Path, seed: int) -> None:
    model = packed_model(seed)
    sc.save(model, tmp_path / "m.safetensors")
    fresh = sc.load(tmp_path / "m.safetensors", into=dense_model(seed + 1), dense=True)
    assert type(fresh[0]) is nn.Linear
    assert same(fresh.state_dict(), dense_state(model))


def test_packed_files_fill_packed_models_and_plain_weights_do_too(tmp_path: Path, seed: int) -> None:
    model = packed_model(seed)
    plain = dense_model(seed + 1)
    plain.load_state_dict(dense_state(model))
    sc.save(model, tmp_path / "packed.safetensors")
    sc.save(plain, tmp_path / "plain.safetensors")
    for name in ("packed", "plain"):
        fresh = packed_model(seed + 2)
        sc.load(tmp_path / f"{name}.safetensors", into=fresh)
        assert same(fresh.state_dict(), model.state_dict()), name


def test_a_plain_weight_that_breaks_the_pattern_is_named_with_its_layer(tmp_path: Path, seed: int) -> None:
    sc.save(dense_model(seed), tmp_path / "plain.safetensors")
    with pytest.raises(PatternError, match=r"(?s)at most 2 for 2:4|one_shot"):
        sc.load(tmp_path / "plain.safetensors", into=packed_model(seed))


def test_types_follow_the_model(tmp_path: Path, seed: int) -> None:
    model = packed_model(seed, dtype=torch.bfloat16)
    sc.save(model, tmp_path / "m.safetensors")
    fresh = sc.load(tmp_path / "m.safetensors", into=dense_model(seed + 1))
    assert fresh[0].weight_dtype == torch.float32
    assert torch.equal(fresh[0].weight, model[0].weight.float())
    assert fresh(torch.randn(2, 40)).dtype == torch.float32


def test_a_dense_checkpoint_with_zeros_shows_its_patterns_and_packs(tmp_path: Path, seed: int) -> None:
    model = nn.ModuleDict(
        {"a": nn.Linear(64, 64), "b": nn.Linear(64, 64), "c": nn.Linear(64, 64), "d": nn.Linear(64, 64)}
    )
    sc.prune.one_shot(model, pattern="2:4", filter_fn=lambda _, name: name == "a")
    sc.prune.one_shot(model, pattern="block 16x16", sparsity=0.75, filter_fn=lambda _, name: name == "b")
    sc.prune.one_shot(model, pattern="unstructured", sparsity=0.9, filter_fn=lambda _, name: name == "c")
    sc.save(model, tmp_path / "dense.safetensors")
    checkpoint = sc.load(tmp_path / "dense.safetensors")
    assert not checkpoint.packed
    found = {name: checkpoint.pattern(f"{name}.weight") for name in "abcd"}
    assert found == {"a": sc.NM(2, 4), "b": sc.Block(16, 16), "c": sc.Unstructured(), "d": None}
    packed = sc.load(tmp_path / "dense.safetensors", pack=True)
    assert set(packed.packed) == {"a", "b", "c"}
    assert same(dict(packed), dict(checkpoint))
    sc.save(packed, tmp_path / "packed.safetensors")
    assert (tmp_path / "packed.safetensors").stat().st_size < 0.6 * (tmp_path / "dense.safetensors").stat().st_size
    assert same(dict(sc.load(tmp_path / "packed.safetensors")), dict(checkpoint))


def test_load_can_pack_through_sparsify(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(512, 512))
    sc.prune.one_shot(model, pattern="block 32x32", sparsity=0.95)
    sc.save(model, tmp_path / "m.safetensors")
    fresh = sc.load(tmp_path / "m.safetensors", into=nn.Sequential(nn.Linear(512, 512)), pack=True)
    assert torch.equal(fresh[0].weight, model[0].weight)
    assert len(sc.report(fresh).rows) == 1


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor(2.5))
        self.register_buffer("cache", torch.zeros(4), persistent=False)


def test_tied_tensors_are_stored_once_and_load_everywhere(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model, fresh = Tied(), Tied()
    sc.save(model, tmp_path / "m.safetensors")
    assert set(load_file(tmp_path / "m.safetensors")) == {"embed.weight", "scale"}
    checkpoint = sc.load(tmp_path / "m.safetensors")
    assert set(checkpoint) == {"embed.weight", "head.weight", "scale"}
    sc.load(tmp_path / "m.safetensors", into=fresh)
    assert fresh.head.weight is fresh.embed.weight
    assert torch.equal(fresh.embed.weight, model.embed.weight)
    untied = Tied()
    untied.head.weight = nn.Parameter(torch.zeros(30, 16))
    sc.load(tmp_path / "m.safetensors", into=untied)
    assert torch.equal(untied.head.weight, model.embed.weight)


def test_a_tied_model_takes_a_file_that_names_the_tensor_once(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model, fresh = Tied(), Tied()
    torch.save({"embed.weight": model.embed.weight.detach(), "scale": model.scale}, tmp_path / "m.pt")
    sc.load(tmp_path / "m.pt", into=fresh)
    assert torch.equal(fresh.head.weight, model.embed.weight)


def test_a_buffer_that_the_model_makes_itself_may_be_in_the_file(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model, fresh = Tied(), Tied()
    torch.save({**model.state_dict(), "cache": torch.ones(4)}, tmp_path / "m.pt")
    sc.load(tmp_path / "m.pt", into=fresh)
    assert torch.equal(fresh.head.weight, model.embed.weight)
    assert torch.equal(fresh.cache, torch.zeros(4))


def test_a_layer_that_sits_twice_in_the_model_is_stored_once(tmp_path: Path, seed: int) -> None:
    def build(layer: nn.Module) -> nn.ModuleDict:
        return nn.ModuleDict({"a": layer, "b": layer})

    torch.manual_seed(seed)
    linear = nn.Linear(16, 16)
    sc.prune.one_shot(linear, pattern="2:4")
    model = build(sc.nn.SparseLinear.from_dense(linear, "2:4"))
    sc.save(model, tmp_path / "m.safetensors")
    assert set(load_file(tmp_path / "m.safetensors")) == {"a.shape", "a.compressed", "a.bitmask", "a.bias"}
    assert torch.equal(sc.load(tmp_path / "m.safetensors")["b.weight"], linear.weight)
    fresh = sc.load(tmp_path / "m.safetensors", into=build(nn.Linear(16, 16)))
    assert torch.equal(fresh["b"].weight, linear.weight)
    assert fresh["a"] is fresh["b"]


def test_views_of_one_storage_are_saved_for_what_they_show(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    module = nn.Module()
    module.register_buffer("head", base[:6])
    module.register_buffer("turned", base.reshape(3, 4).t())
    sc.save(module, tmp_path / "m.safetensors")
    loaded = load_file(tmp_path / "m.safetensors")
    assert torch.equal(loaded["head"], base[:6])
    assert torch.equal(loaded["turned"], base.reshape(3, 4).t())
    assert (tmp_path / "m.safetensors").stat().st_size < 600


def test_conv1d_keeps_its_orientation(tmp_path: Path, seed: int) -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    torch.manual_seed(seed)
    layer = conv1d(16, 16)  # square: nothing but the header can tell
    sc.prune.one_shot(layer, pattern="2:4")
    expected, x = layer.weight.detach().clone(), torch.randn(3, 16)
    model = nn.ModuleDict({"p": sc.nn.SparseLinear.from_dense(layer, "2:4")})
    sc.save(model, tmp_path / "m.safetensors")
    assert torch.equal(sc.load(tmp_path / "m.safetensors")["p.weight"], expected)
    packed = sc.load(tmp_path / "m.safetensors", into=nn.ModuleDict({"p": conv1d(16, 16)}))
    assert isinstance(packed["p"], sc.nn.SparseLinear)
    assert torch.equal(packed["p"].weight, expected)
    assert torch.equal(packed["p"](x), model["p"](x))
    plain = sc.load(tmp_path / "m.safetensors", into=nn.ModuleDict({"p": conv1d(16, 16)}), dense=True)
    assert torch.equal(plain["p"].weight, expected)
    # Without our header the stored tensors are [out, in], and the model tells how it wants them.
    torch.save(model.state_dict(), tmp_path / "m.pt")
    again = sc.load(tmp_path / "m.pt", into=nn.ModuleDict({"p": conv1d(16, 16)}), dense=True)
    assert torch.equal(again["p"].weight, expected)


def test_fused_experts_travel_between_packed_and_dense_models(tmp_path: Path, seed: int) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=3,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.MixtralModel(config).eval()
    sc.prune.one_shot(model, pattern="2:4")
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name, experts = next((n, m) for n, m in model.named_modules() if n.endswith("experts"))
    model.set_submodule(name, sc.nn.SparseExperts.from_dense(experts, "2:4"))
    sc.save(model, tmp_path / "m.safetensors")
    dense = sc.load(tmp_path / "m.safetensors", into=transformers.MixtralModel(config))
    assert same(sc.nn.dense_state_dict(dense.state_dict(), like=dense), expected)
    for parameter in model.parameters():
        parameter.data.zero_()
    sc.load(tmp_path / "m.safetensors", into=model)
    assert same(sc.nn.dense_state_dict(model.state_dict(), like=model), expected)
    torch.save(expected, tmp_path / "dense.pt")
    sc.load(tmp_path / "dense.pt", into=model)
    assert same(sc.nn.dense_state_dict(model.state_dict(), like=model), expected)


def test_layers_whose_parent_reads_the_weight_stay_dense(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    sc.prune.one_shot(model, pattern="2:4")
    sc.save(model, tmp_path / "dense.safetensors")
    sc.save(sc.load(tmp_path / "dense.safetensors", pack=True), tmp_path / "packed.safetensors")
    assert "linear1" in sc.load(tmp_path / "packed.safetensors").packed
    fresh = sc.load(
        tmp_path / "packed.safetensors", into=nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    )
    assert type(fresh.linear1) is nn.Linear
    assert same(fresh.state_dict(), model.state_dict())


# What does not fit ---------------------------------------------------------------------------------------------------


def test_missing_and_unexpected_names_are_listed_and_nothing_changes(tmp_path: Path, seed: int) -> None:
    sc.save(packed_model(seed), tmp_path / "m.safetensors")
    other = nn.ModuleDict({"0": nn.Linear(40, 52), "extra": nn.Linear(2, 2)})
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(
        KeyMismatchError, match=r"missing: extra\.bias, extra\.weight; unexpected: 2\.weight, 3\.bias, 3\.w"
    ):
        sc.load(tmp_path / "m.safetensors", into=other)
    assert same(other.state_dict(), before)
    sc.load(tmp_path / "m.safetensors", into=other, strict=False)
    assert isinstance(other["0"], sc.nn.SparseLinear)
    assert torch.equal(other["extra"].weight, before["extra.weight"])
    with pytest.raises(KeyMismatchError, match="missing: extra"):
        sc.load(tmp_path / "m.safetensors", into=nn.ModuleDict({"extra": nn.Linear(2, 2)}), strict=False)


def test_a_shape_mismatch_names_the_layer_and_nothing_changes(tmp_path: Path, seed: int) -> None:
    sc.save(packed_model(seed), tmp_path / "packed.safetensors")
    sc.save(dense_model(seed), tmp_path / "plain.safetensors")
    for name in ("packed", "plain"):
        other = dense_model(seed + 1)
        other[2] = nn.Linear(52, 23, bias=False)
        before = {key: tensor.clone() for key, tensor in other.state_dict().items()}
        with pytest.raises(ShapeError, match=r"2\.weight is \[24, 52\] in the checkpoint and \[23, 52\] in the model"):
            sc.load(tmp_path / f"{name}.safetensors", into=other)
        assert same(other.state_dict(), before)


def test_integers_do_not_become_weights(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3, 3, dtype=torch.int32), "bias": torch.ones(3)}, tmp_path / "m.pt")
    with pytest.raises(DtypeError, match=r"weight is torch\.int32"):
        sc.load(tmp_path / "m.pt", into=nn.Linear(3, 3))


def test_a_prefix_that_explains_the_mismatch_is_told(tmp_path: Path, seed: int) -> None:
    sc.save(nn.ModuleDict({"bert": dense_model(seed)}), tmp_path / "head.safetensors")
    with pytest.raises(KeyMismatchError, match=r'begin with "bert\."'):
        sc.load(tmp_path / "head.safetensors", into=dense_model(seed))
    sc.save(dense_model(seed), tmp_path / "inner.safetensors")
    with pytest.raises(KeyMismatchError, match=r"into=model\.bert"):
        sc.load(tmp_path / "inner.safetensors", into=nn.ModuleDict({"bert": dense_model(seed)}))


def test_what_stays_on_the_meta_device_and_strange_states_are_refused_by_name(tmp_path: Path, seed: int) -> None:
    sc.save(dense_model(seed), tmp_path / "m.safetensors")
    larger = nn.Sequential(*dense_model(seed), nn.Linear(24, 24)).to("meta")
    with pytest.raises(UnsupportedError, match=r"(?s)4\.weight.*to_empty"):
        sc.load(tmp_path / "m.safetensors", into=larger, strict=False)
    with pytest.raises(UnsupportedError, match="meta"):
        sc.save(packed_model(seed).to("meta"), tmp_path / "x.safetensors")
    strange = nn.Module()
    strange.register_buffer("s", torch.eye(3).to_sparse())
    with pytest.raises(UnsupportedError, match="sparse"):
        sc.save(strange, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"nothing\.safetensors"):
        sc.load(tmp_path / "nothing.safetensors")
    with pytest.raises(FileMissingError, match="folder"):
        sc.save(nn.Linear(2, 2), tmp_path / "no" / "m.safetensors")
    with pytest.raises(FileMissingError, match="no weights"):
        sc.load(tmp_path)


def test_a_file_crosses_to_a_process_with_another_instruction_set(tmp_path: Path, seed: int) -> None:
    model = packed_model(seed, "1:8")
    sc.save(model, tmp_path / "m.safetensors")
    torch.save(dense_state(model), tmp_path / "expected.pt")
    code = (
        "import torch, sparsecore as sc; from torch import nn\n"
        "m = nn.Sequential(nn.Linear(40, 52), nn.GELU(), nn.Linear(52, 24, bias=False), nn.LayerNorm(24))\n"
        "sc.load('m.safetensors', into=m); want = torch.load('expected.pt')\n"
        "assert sc.runtime_isa() == 'portable' and torch.equal(m[0].weight, want['0.weight'])\n"
        "assert torch.equal(m[2].weight, want['2.weight'])\n"
    )
    environment = {"SPARSECORE_FORCE_ISA": "portable", "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)


def test_a_layer_that_becomes_packed_is_never_unpacked(seed, tmp_path, monkeypatch):
    model = packed_model(seed, "unstructured").to(torch.float32)
    sc.save(model, tmp_path / "model.safetensors")
    monkeypatch.setattr(sc.StoredWeight, "unpack", None)
    loaded = sc.load(tmp_path / "model.safetensors", into=dense_model(seed + 1))
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_kept_zeros_stay_where_the_file_has_them(seed, tmp_path):
    """Packing a dense weight would choose the lowest positions; those of a pruning tool may be others."""
    stored = sc.pack(torch.tensor([[0.0, 5, 0, 7, 1, 1, 1, 1]]) * torch.tensor([1, 1, 1, 1, 0, 0, 1, 1]), "2:4")
    tensors = {name: tensor.clone() for name, tensor in stored.tensors.items()}
    tensors["compressed"].zero_()
    layer = sc.nn.SparseLinear.from_packed(sc.PackedWeight.from_stored(sc.from_tensors(tensors)))
    sc.save(nn.Sequential(layer), tmp_path / "zeros.safetensors")
    loaded = sc.load(tmp_path / "zeros.safetensors", into=nn.Sequential(nn.Linear(8, 1, bias=False)))
    assert torch.equal(loaded.state_dict()["0.bitmask"], tensors["bitmask"])


@pytest.mark.parametrize("thing", [{"weight": torch.ones(2)}, "model"])
def test_what_is_no_model_is_refused(thing, tmp_path):
    with pytest.raises(UnsupportedError, match=type(thing).__name__):
        sc.save(thing, tmp_path / "x.safetensors")
    with pytest.raises(InvalidValueError, match="no model"):
        sc.load(tmp_path, into=thing)
    assert not any(tmp_path.iterdir())
