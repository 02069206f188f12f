"""Folders that `save_pretrained` writes from a sparsified model and `from_pretrained` reads back packed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sparse_models import PATTERNS, generator, pruned
from tiny_bert import VOCAB, batch_of, tiny_bert
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

import sparsecore as sc
from sparsecore.errors import CorruptFileError, FormatVersionError, UnsupportedError
from sparsecore.patterns import NM, Pattern

Batch = dict[str, torch.Tensor]


def prune(model: nn.Module, pattern: Pattern, seed: int) -> None:
    rng = generator(seed)
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Linear):
            weight.data = pruned(*weight.shape, pattern, rng)
        elif type(module).__name__ == "Conv1D":
            weight.data = pruned(*weight.t().shape, pattern, rng).t().contiguous()


def packed(model: nn.Module) -> list[sc.nn.SparseLinear]:
    return [module for module in model.modules() if isinstance(module, sc.nn.SparseLinear)]


def tiny_llama() -> PreTrainedModel:
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, num_attention_heads=4, num_key_value_heads=2, **sizes)).eval()


def tiny_gpt2() -> PreTrainedModel:
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=48, **ends)).eval()


@pytest.fixture(params=["bert", "gpt2", "llama"])
def model(request: pytest.FixtureRequest, seed: int) -> PreTrainedModel:
    made = {"bert": lambda: tiny_bert(seed, layers=2), "gpt2": tiny_gpt2, "llama": tiny_llama}[request.param]()
    prune(made, NM(2, 4), seed)
    return sc.sparsify(made, min_ratio=0)


def read(model: PreTrainedModel, folder: Path, **options: Any) -> PreTrainedModel:
    kind = AutoModelForCausalLM if model.can_generate() else AutoModel
    loaded, info = kind.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return loaded


def test_a_folder_comes_back_packed_and_equal(model: PreTrainedModel, tmp_path: Path, seed: int) -> None:
    batch = batch_of(seed, (9, 5))
    expected = model(**batch)[0]
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = read(model, tmp_path)
    assert [layer.pattern for layer in packed(loaded)] == [layer.pattern for layer in packed(model)]
    assert torch.equal(loaded(**batch)[0], expected)


def test_a_loaded_model_saves_the_same_again(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "first")
    read(model, tmp_path / "first").save_pretrained(tmp_path / "second")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_dtype_of_loading_converts_the_packed_values(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = read(model, tmp_path, dtype=torch.bfloat16)
    for ours, before in zip(packed(loaded), packed(model), strict=True):
        assert torch.equal(ours.weight, before.weight.bfloat16())
    assert {layer.weight_dtype for layer in packed(loaded.float())} == {torch.float32}


def test_dequantize_gives_dense_layers(model: PreTrainedModel, tmp_path: Path, seed: int) -> None:
    model.save_pretrained(tmp_path)
    dense = read(model, tmp_path).dequantize()
    assert not packed(dense)
    batch = batch_of(seed, (4,))
    torch.testing.assert_close(dense(**batch)[0], model(**batch)[0], rtol=1e-4, atol=1e-5)
    dense.save_pretrained(tmp_path / "dense")
    assert "quantization_config" not in json.loads((tmp_path / "dense" / "config.json").read_text())


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.name)
def test_every_pattern(pattern: Pattern, tmp_path: Path, seed: int) -> None:
    model = tiny_bert(seed, layers=1)
    prune(model, pattern, seed)
    sc.sparsify(model, min_ratio=0, pattern=pattern)
    model.save_pretrained(tmp_path)
    loaded = read(model, tmp_path)
    assert [layer.pattern for layer in packed(loaded)] == [pattern] * len(packed(model))
    batch = batch_of(seed, (6,))
    assert torch.equal(loaded(**batch)[0], model(**batch)[0])


def test_a_bare_model_loads_into_one_with_a_head_and_back(tmp_path: Path, seed: int) -> None:
    model = tiny_bert(seed, layers=1)
    prune(model, NM(2, 4), seed)
    sc.sparsify(model, min_ratio=0).save_pretrained(tmp_path / "bare")
    headed = BertForSequenceClassification.from_pretrained(tmp_path / "bare")
    assert len(packed(headed)) == len(packed(model))
    headed.save_pretrained(tmp_path / "headed")
    bare = AutoModel.from_pretrained(tmp_path / "headed")
    batch = batch_of(seed, (6,))
    assert torch.equal(bare(**batch)[0], model(**batch)[0])


def test_sc_load_attaches_what_save_pretrained_needs(model: PreTrainedModel, tmp_path: Path) -> None:
    sc.save(model, tmp_path / "model.safetensors")
    fresh = type(model)(model.config).eval()
    sc.load(tmp_path / "model.safetensors", into=fresh)
    fresh.save_pretrained(tmp_path / "folder")
    assert len(packed(read(model, tmp_path / "folder"))) == len(packed(model))


def damaged(folder: Path, change: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda q: q.update(version="2.0"), FormatVersionError),
        (lambda q: q["modules"].update({"encoder.layer.0.output.dense": 3}), CorruptFileError),
        (lambda q: first(q)["tensors"].update(weight=["float32", [1]]), CorruptFileError),
        (lambda q: first(q)["tensors"].update(bitmask=["pickle", [-1]]), CorruptFileError),
        (lambda q: first(q).update(shape=[1, 1]), UnsupportedError),
        (lambda q: first(q).update(pattern="1:4"), CorruptFileError),
        (lambda q: q["modules"].update({"embeddings": first(q)}), UnsupportedError),
        (lambda q: q.update(modules=[1]), CorruptFileError),
        (lambda q: q.pop("modules"), CorruptFileError),
    ],
)
def test_a_lying_config_is_refused(change: Any, error: type[Exception], tmp_path: Path, seed: int) -> None:
    model = tiny_bert(seed, layers=1)
    prune(model, NM(2, 4), seed)
    sc.sparsify(model, min_ratio=0).save_pretrained(tmp_path)
    damaged(tmp_path, change)
    with pytest.raises(error):
        AutoModel.from_pretrained(tmp_path)


def first(config: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = next(iter(config["modules"].values()))
    return entry


def test_missing_tensors_are_named(tmp_path: Path, seed: int) -> None:
    model = tiny_bert(seed, layers=1)
    prune(model, NM(2, 4), seed)
    sc.sparsify(model, min_ratio=0).save_pretrained(tmp_path)
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in tensors if name.endswith("bitmask"))
    del tensors[gone]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CorruptFileError, match="bitmask"):
        AutoModel.from_pretrained(tmp_path)


def in_new_process(code: str, folder: Path) -> str:
    run = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


@pytest.mark.parametrize("order", ["import sparsecore, transformers", "import transformers, sparsecore"])
def test_registration_needs_no_order_and_without_it_the_name_is_said(order: str, tmp_path: Path, seed: int) -> None:
    model = tiny_bert(seed, layers=1)
    prune(model, NM(2, 4), seed)
    sc.sparsify(model, min_ratio=0).save_pretrained(tmp_path)
    loads = "import sys; m = transformers.AutoModel.from_pretrained(sys.argv[1]);"
    count = "print('packed', sum(type(k).__name__ == 'SparseLinear' for k in m.modules()))"
    assert f"packed {len(packed(model))}" in in_new_process(f"{order}; {loads} {count}", tmp_path)
    if order.startswith("import transformers"):
        assert "got sparsecore" in in_new_process(f"import transformers; {loads}", tmp_path)


def test_importing_sparsecore_does_not_import_transformers() -> None:
    code = "import sys, sparsecore; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
