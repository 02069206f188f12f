"""Checkpoints of others: state dicts of torch.save, masks, Hugging Face folders."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune as torch_prune

import sparsecore as sc
from sparsecore.errors import CorruptFileError, FileMissingError, PickleRefusedError, UnsupportedError


def model(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


WRAPPINGS = {
    "plain": lambda state: state,
    "ordered": OrderedDict,
    "lightning": lambda state: {"epoch": 3, "state_dict": state, "lr": 0.1, "name": "run"},
    "model": lambda state: {"model": state, "step": 7},
    "ddp": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "compiled": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "parameters": lambda state: {name: nn.Parameter(tensor) for name, tensor in state.items()},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_state_dicts_read_however_they_are_wrapped(tmp_path: Path, seed: int, wrapping: str, zipped: bool) -> None:
    state = dict(model(seed).state_dict())
    torch.save(WRAPPINGS[wrapping](state), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    checkpoint = sc.load(tmp_path / "m.pt")
    assert checkpoint.kind == "state dict"
    assert same(dict(checkpoint), state)
    fresh = sc.load(tmp_path / "m.pt", into=model(seed + 1))
    assert same(fresh.state_dict(), state)


def test_the_kind_is_told_by_the_content_not_the_name(tmp_path: Path, seed: int) -> None:
    state = dict(model(seed).state_dict())
    save_file(state, tmp_path / "safe.pt")
    torch.save(state, tmp_path / "torch.weights")
    assert sc.load(tmp_path / "safe.pt").kind == "safetensors"
    assert sc.load(tmp_path / "torch.weights").kind == "state dict"
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07\x12\x07pytorch" * 4)
    with pytest.raises(UnsupportedError, match="known kind"):
        sc.load(tmp_path / "m.onnx")


def test_a_saved_module_needs_consent(tmp_path: Path, seed: int) -> None:
    original = model(seed)
    torch.save(original, tmp_path / "m.pt")
    with pytest.raises(PickleRefusedError, match=r"(?s)Sequential.*trust_pickle"):
        sc.load(tmp_path / "m.pt")
    assert same(dict(sc.load(tmp_path / "m.pt", trust_pickle=True)), dict(original.state_dict()))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_models_need_consent(tmp_path: Path, seed: int) -> None:
    original = model(seed).eval()
    torch.jit.trace(original, torch.ones(1, 12)).save(str(tmp_path / "m.pt"))
    with pytest.raises(PickleRefusedError, match="TorchScript"):
        sc.load(tmp_path / "m.pt")
    assert same(dict(sc.load(tmp_path / "m.pt", trust_pickle=True)), dict(original.state_dict()))


def test_masked_weights_are_folded_unless_the_model_is_masked_too(tmp_path: Path, seed: int) -> None:
    masked = model(seed)
    torch_prune.random_unstructured(masked[0], "weight", amount=0.6)
    with torch.no_grad():
        masked[0].weight_orig[masked[0].weight_mask == 0] = float("inf")  # infinity times zero would be NaN
    torch.save(masked.state_dict(), tmp_path / "m.pt")
    checkpoint = sc.load(tmp_path / "m.pt")
    expected = torch.where(masked[0].weight_mask != 0, masked[0].weight_orig.detach(), torch.tensor(0.0))
    assert torch.equal(checkpoint["0.weight"], expected)
    assert set(checkpoint) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert torch.equal(sc.load(tmp_path / "m.pt", into=model(seed + 1))[0].weight, expected)
    again = model(seed + 2)
    torch_prune.identity(again[0], "weight")
    sc.load(tmp_path / "m.pt", into=again)
    assert same(again.state_dict(), masked.state_dict())


def test_a_mask_of_another_shape_is_named(tmp_path: Path) -> None:
    torch.save({"fc.weight_orig": torch.ones(3, 4), "fc.weight_mask": torch.ones(4, 3)}, tmp_path / "m.pt")
    with pytest.raises(CorruptFileError, match=r"(?s)mask do not fit.*fc\.weight"):
        sc.load(tmp_path / "m.pt")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage is deprecated")
def test_tensors_of_other_kinds_are_named(tmp_path: Path) -> None:
    for name, value in {
        "meta": torch.empty(2, device="meta"),
        "quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    }.items():
        torch.save({"weight": value}, tmp_path / f"{name}.pt")
        with pytest.raises(UnsupportedError, match="weight"):
            sc.load(tmp_path / f"{name}.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(UnsupportedError, match="no tensors"):
        sc.load(tmp_path / "none.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(UnsupportedError, match="list"):
        sc.load(tmp_path / "list.pt")


# Hugging Face folders ------------------------------------------------------------------------------------------------


def sharded(folder: Path, state: dict[str, torch.Tensor], torch_files: bool = False) -> None:
    """Two shards and their index, as transformers writes them."""
    folder.mkdir(exist_ok=True)
    stem, suffix = ("pytorch_model", "bin") if torch_files else ("model", "safetensors")
    names = sorted(state)
    weight_map = {}
    for part, chosen in enumerate((names[:2], names[2:]), start=1):
        file = f"{stem}-0000{part}-of-00002.{suffix}"
        tensors = {name: state[name] for name in chosen}
        torch.save(tensors, folder / file) if torch_files else save_file(tensors, folder / file)
        weight_map.update(dict.fromkeys(chosen, file))
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


@pytest.mark.parametrize("torch_files", [False, True])
def test_sharded_folders_read_as_one(tmp_path: Path, seed: int, torch_files: bool) -> None:
    state = dict(model(seed).state_dict())
    sharded(tmp_path / "hf", state, torch_files)
    assert same(dict(sc.load(tmp_path / "hf")), state)
    index = next((tmp_path / "hf").glob("*.index.json"))
    assert same(dict(sc.load(index)), state)


def test_a_folder_written_by_transformers_loads_into_its_model(tmp_path: Path, seed: int) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12,
    )  # fmt: skip
    original = transformers.BertModel(config).eval()
    sc.prune.one_shot(original, pattern="2:4")
    original.save_pretrained(tmp_path / "hf")
    fresh = sc.load(tmp_path / "hf", into=transformers.BertModel(config))
    assert same(fresh.state_dict(), original.state_dict())
    checkpoint = sc.load(tmp_path / "hf")
    assert checkpoint.pattern("encoder.layer.0.output.dense.weight") == sc.NM(2, 4)
    sc.save(checkpoint.pack(), tmp_path / "packed.safetensors")
    packed = sc.load(tmp_path / "packed.safetensors", into=transformers.BertModel(config).eval())
    assert isinstance(packed.encoder.layer[0].output.dense, sc.nn.SparseLinear)
    ids = torch.tensor([[1, 2, 3]])
    expected, found = original(ids).last_hidden_state, packed(ids).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_safetensors_come_before_pickles(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    state = dict(model(seed).state_dict())
    save_file(state, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert same(dict(sc.load(folder)), state)


def test_damaged_folders_are_named(tmp_path: Path, seed: int) -> None:
    state = dict(model(seed).state_dict())
    folder = tmp_path / "hf"
    sharded(folder, state)
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())

    def with_map(**changes: object) -> None:
        index.write_text(json.dumps({**good, "weight_map": {**good["weight_map"], **changes}}))

    with_map(extra="model-00001-of-00002.safetensors")
    with pytest.raises(CorruptFileError, match="lacks 'extra'"):
        sc.load(folder)
    for escape in ("../secret.safetensors", "/etc/passwd", "..", "", 3):
        with_map(extra=escape)
        with pytest.raises(CorruptFileError, match="plain file name"):
            sc.load(folder)
    with_map(extra="model-00009-of-00002.safetensors")
    with pytest.raises(FileMissingError, match="00009"):
        sc.load(folder)
    index.write_text('{"weight_map": {"a": ')
    with pytest.raises(CorruptFileError, match="JSON"):
        sc.load(folder)
    index.write_text("{}")
    with pytest.raises(CorruptFileError, match="weight_map"):
        sc.load(folder)
    (folder / "config.json").write_text(
        json.dumps({"quantization_config": {"sparsity_config": {"format": "marlin-24"}}})
    )
    with pytest.raises(UnsupportedError, match="marlin-24"):
        sc.load(folder)


@pytest.mark.filterwarnings("error")
def test_a_plain_pickle_is_refused_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(nn.Linear(2, 2)))
    with pytest.raises(PickleRefusedError, match="trust_pickle"):
        sc.load(tmp_path / "m.pkl")
