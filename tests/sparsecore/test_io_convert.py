"""Converting checkpoints and folders between the packed, the dense and compressed-tensors' form."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sparse_models import generator, pruned
from test_huggingface_folders import packed, prune, tiny_gpt2
from tiny_bert import batch_of, tiny_bert
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM
from typer.testing import CliRunner

import sparsecore as sc
from sparsecore.cli.app import app
from sparsecore.errors import InvalidValueError, UnknownNameError, UnsupportedError
from sparsecore.inspection import inspect_checkpoint
from sparsecore.io.convert import convert
from sparsecore.nn import SparseLinear
from sparsecore.packed import PackedWeight
from sparsecore.patterns import NM, Unstructured
from sparsecore.samples import random_weight


@pytest.fixture
def folder(tmp_path: Path, seed: int) -> Path:
    """A dense folder with 2:4 zeros, a tokenizer file and a folder of something else."""
    model = tiny_bert(seed, layers=2)
    prune(model, NM(2, 4), seed)
    model.save_pretrained(tmp_path / "dense", max_shard_size="20KB")
    (tmp_path / "dense" / "vocab.txt").write_text("a\nb\n")
    (tmp_path / "dense" / "1_Pooling").mkdir()
    (tmp_path / "dense" / "1_Pooling" / "config.json").write_text("{}")
    return tmp_path / "dense"


@pytest.mark.parametrize("shard_bytes", [2**30, 10_000])
def test_there_and_back(folder: Path, tmp_path: Path, seed: int, shard_bytes: int) -> None:
    batch = batch_of(seed, (7, 4))
    expected = AutoModel.from_pretrained(folder)(**batch)[0]
    result = convert(folder, tmp_path / "packed", "sparsecore", shard_bytes=shard_bytes)
    assert result.after < 0.65 * result.before and len(result.packed) == 13
    model = AutoModel.from_pretrained(tmp_path / "packed")
    assert len(packed(model)) == 13
    torch.testing.assert_close(model(**batch)[0], expected, rtol=1e-4, atol=1e-5)
    assert (tmp_path / "packed" / "vocab.txt").read_text() == "a\nb\n"
    assert (tmp_path / "packed" / "1_Pooling" / "config.json").is_file()

    convert(tmp_path / "packed", tmp_path / "again", "dense", shard_bytes=shard_bytes)
    assert "quantization_config" not in json.loads((tmp_path / "again" / "config.json").read_text())
    before, after = sc.load(folder), sc.load(tmp_path / "again")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "dense", "packed"]


def test_a_conv1d_model(tmp_path: Path, seed: int) -> None:
    model = tiny_gpt2()
    prune(model, NM(1, 4), seed)
    batch = batch_of(seed, (7,))
    expected = model(**batch)[0]
    model.save_pretrained(tmp_path / "dense")
    result = convert(tmp_path / "dense", tmp_path / "packed", "sparsecore")
    assert {pattern for pattern, _, _ in result.packed.values()} == {"1:4"}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "packed")
    assert len(packed(loaded)) == 8
    torch.testing.assert_close(loaded(**batch)[0], expected, rtol=1e-4, atol=1e-5)
    convert(tmp_path / "packed", tmp_path / "again", "dense")
    dense = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert all(torch.equal(a, b) for a, b in zip(dense.state_dict().values(), model.state_dict().values(), strict=True))


def test_the_form_of_compressed_tensors(folder: Path, tmp_path: Path) -> None:
    result = convert(folder, tmp_path / "out", "sparse-24-bitmask")
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert config["sparsity_config"]["format"] == "sparse-24-bitmask" and len(result.packed) == 13
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    layer = "encoder.layer.0.output.dense"
    rows, cols = (int(size) for size in tensors[f"{layer}.shape"].flatten())
    assert tensors[f"{layer}.shape"].shape == (2, 1) and f"{layer}.weight" not in tensors
    bits = torch.tensor(
        [[byte >> i & 1 for byte in row for i in range(8)] for row in tensors[f"{layer}.bitmask"].tolist()]
    )
    dense = torch.zeros(rows, cols)
    dense[bits[:, :cols].bool()] = tensors[f"{layer}.compressed"].flatten()
    assert torch.equal(dense, sc.load(folder)[f"{layer}.weight"])


def test_a_single_file(tmp_path: Path, seed: int) -> None:
    rng = generator(seed)
    weights = {"a.weight": pruned(32, 64, NM(2, 4), rng), "b.weight": pruned(48, 64, Unstructured(), rng)}
    save_file({**weights, "a.bias": torch.ones(32)}, tmp_path / "in.safetensors")
    convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", "sparsecore")
    loaded = sc.load(tmp_path / "out.safetensors")
    assert set(loaded.packed) == {"a", "b"} and loaded.kind == "sparsecore"
    assert all(torch.equal(loaded[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    ("pattern", "dtype", "share"),
    [
        ("2:4", None, 0.57),
        ("1:8", None, 0.15),
        ("unstructured", None, 0.17),
        ("block 8x8", None, 0.11),
        ("block 32x32", None, 0.11),
        ("2:4", torch.int8, 0.32),
    ],
)
def test_a_file_takes_at_most_this_share_of_dense_bf16(
    pattern: str, dtype: torch.dtype | None, share: float, tmp_path: Path, seed: int
) -> None:
    weight = random_weight((1024, 1024), sc.parse(pattern), 0.1, torch.bfloat16, generator(seed))
    save_file({"a.weight": weight}, tmp_path / "dense.safetensors")
    dense_bytes = (tmp_path / "dense.safetensors").stat().st_size
    if dtype is None:
        convert(tmp_path / "dense.safetensors", tmp_path / "packed.safetensors", "sparsecore")
    else:
        layer = SparseLinear.from_packed(PackedWeight.from_dense(weight, sc.parse(pattern), dtype))
        sc.save(nn.Sequential(OrderedDict(a=layer)), tmp_path / "packed.safetensors")
    kept = weight.count_nonzero() / weight.numel() if pattern.startswith(("block", "un")) else 0.1
    # Random masks keep a little more or less than a tenth.
    assert (tmp_path / "packed.safetensors").stat().st_size <= share * dense_bytes * max(1.0, float(kept) / 0.1)


@pytest.mark.parametrize(("kind", "values"), [("bert", "int8"), ("gpt2", "int8"), ("bert", "fp8")])
def test_a_quantised_folder_becomes_floating_for_other_tools(kind: str, values: str, tmp_path: Path, seed: int) -> None:
    model = (tiny_bert(seed, layers=1) if kind == "bert" else tiny_gpt2()).bfloat16()
    prune(model.float(), NM(2, 4), seed)
    sc.sparsify(model.bfloat16(), dtype=values, min_ratio=0).save_pretrained(tmp_path / values)
    convert(tmp_path / values, tmp_path / "dense", "dense")
    convert(tmp_path / values, tmp_path / "bitmask", "sparse-24-bitmask")
    written = load_file(tmp_path / "bitmask" / "model.safetensors")
    assert not any(name.endswith("scales") for name in written)
    assert {tensor.dtype for tensor in load_file(tmp_path / "dense" / "model.safetensors").values()} == {torch.bfloat16}
    found = {tensor.dtype for name, tensor in written.items() if name.rpartition(".")[2] in ("compressed", "weight")}
    assert found == {torch.bfloat16}
    source, dense, bitmask = (sc.load(tmp_path / name) for name in (values, "dense", "bitmask"))
    for name in source:
        assert torch.equal(source[name].bfloat16(), dense[name]) and torch.equal(dense[name], bitmask[name])


def test_a_folder_says_which_way_a_conv1d_lies(tmp_path: Path, seed: int) -> None:
    model = tiny_gpt2()
    prune(model, NM(2, 4), seed)
    dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sc.sparsify(model, min_ratio=0).save_pretrained(tmp_path / "packed")
    loaded = sc.load(tmp_path / "packed")
    assert all(torch.equal(loaded[name], dense[name]) for name in loaded)
    assert not any("other shapes" in note for note in inspect_checkpoint(loaded).notes)
    sc.save(loaded, tmp_path / "again.safetensors")
    sc.load(tmp_path / "again.safetensors", into=tiny_gpt2())


def test_a_config_that_no_model_takes_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": "wide"}')
    with pytest.raises(UnsupportedError, match="hidden_size"):
        convert(folder, tmp_path / "out", "sparsecore")


def test_what_is_there_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    for target in (tmp_path / "kept", tmp_path / "kept" / "file", folder / "inside"):
        with pytest.raises(InvalidValueError):
            convert(folder, target, "dense")
    assert (tmp_path / "kept" / "file").read_text() == "mine"
    with pytest.raises(UnknownNameError, match="dense"):
        convert(folder, tmp_path / "new", "dens")  # type: ignore[arg-type]


def test_a_full_disk_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    before = sorted(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))  # what a file may hold: writing more is an OSError
    try:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with pytest.raises(OSError, match=r"File too large|writing"):
            convert(folder, tmp_path / "packed", "sparsecore")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(tmp_path.iterdir()) == before


def test_the_command(folder: Path, tmp_path: Path) -> None:
    arguments = ["convert", os.fspath(folder), "--to", "sparsecore", "-o", os.fspath(tmp_path / "out")]
    output: Any = CliRunner().invoke(app, arguments)
    assert output.exit_code == 0, output.output
    assert "13 layers packed" in output.output and "2:4" in output.output
