"""Checkpoints are read tensor by tensor: what is not asked for is not read, and nothing that was read stays."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import sparsecore as sc
from sparsecore.errors import CorruptFileError, UnsupportedError

LAYERS, SIZE = 32, 1024


def layers(seed: int, count: int = LAYERS, size: int = SIZE) -> dict[str, torch.Tensor]:
    """2:4 weights of bf16."""
    rng = torch.Generator().manual_seed(seed)
    state = {}
    masks = torch.tensor(list(itertools.permutations((0, 0, 1, 1)))).unique(dim=0).bfloat16()
    for index in range(count):
        kept = masks[torch.randint(len(masks), (size, size // 4), generator=rng)].reshape(size, size)
        state[f"{index}.weight"] = torch.randn(size, size, generator=rng).bfloat16() * kept
        state[f"{index}.bias"] = torch.randn(size, generator=rng).bfloat16()
    return state


def folder_of(path: Path, state: dict[str, torch.Tensor], shards: int = 3) -> Path:
    path.mkdir()
    names = sorted(state)
    weight_map = {}
    for part in range(shards):
        file = f"model-{part + 1:05}-of-{shards:05}.safetensors"
        save_file({name: state[name] for name in names[part::shards]}, path / file)
        weight_map.update(dict.fromkeys(names[part::shards], file))
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


@pytest.mark.parametrize("form", ["dense", "packed"])
def test_a_model_on_the_meta_device_fills_without_holding_the_file(tmp_path: Path, seed: int, form: str) -> None:
    """The resident memory of a new process grows by at most 1.2 times the packed model."""
    state = layers(seed)
    source = folder_of(tmp_path / "hf", state)
    if form == "packed":
        sc.save(sc.load(source).pack(), tmp_path / "packed.safetensors")
        source = tmp_path / "packed.safetensors"
    torch.save({name: state[name] for name in ("0.weight", f"{LAYERS - 1}.weight", "3.bias")}, tmp_path / "some.pt")
    code = (
        "import pathlib, sys, torch, sparsecore as sc\n"
        "from torch import nn\n"
        "process = pathlib.Path('/proc/self')\n"
        "def memory(key): return int((process / 'status').read_text().split(key + ':')[1].split()[0]) * 1024\n"
        "def layer(n): return sc.nn.SparseLinear(n, n, pattern='2:4', device='meta', dtype=torch.bfloat16)\n"
        f"layers, size = {LAYERS}, {SIZE}\n"
        "small = layer(size); small.to_empty(device='cpu')\n"  # imports and first calls are not the model's
        "model = nn.Sequential(*(layer(size) for _ in range(layers)))\n"
        "(process / 'clear_refs').write_text('5')\n"  # the peak counts from here
        "before = memory('VmRSS')\n"
        "sc.load(sys.argv[1], into=model)\n"
        "grown, packed = memory('VmHWM') - before, sum(m.held_bytes for m in model)\n"
        "want = torch.load('some.pt')\n"
        "assert all(torch.equal(model.get_submodule(n.split('.')[0]).weight, t) for n, t in want.items() if 'w' in n)\n"
        "assert torch.equal(model[3].bias, want['3.bias'])\n"
        "print(grown / packed)\n"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(source)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(f"{float(done.stdout):.3f} of the packed model")
    assert float(done.stdout) <= 1.2


def test_only_what_is_asked_for_is_read(tmp_path: Path, seed: int) -> None:
    """A file of 4 TiB, nearly all of it a hole, opens at once; its small tensor reads."""
    data = torch.randn(8, generator=torch.Generator().manual_seed(seed))
    rows = 2**32
    header = {
        "big": {"dtype": "F32", "shape": [rows, 256], "data_offsets": [0, rows * 1024]},
        "small": {"dtype": "F32", "shape": [8], "data_offsets": [rows * 1024, rows * 1024 + 32]},
    }
    text = json.dumps(header).encode()
    with (tmp_path / "m.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        try:
            file.seek(rows * 1024, os.SEEK_CUR)
            file.write(data.numpy().tobytes())
        except OSError:  # a file system with a lower limit
            return
    checkpoint = sc.load(tmp_path / "m.safetensors")
    assert checkpoint.shape("big") == (rows, 256)
    assert checkpoint.nbytes("big") == rows * 1024
    assert torch.equal(checkpoint["small"], data)


def test_a_checkpoint_outlives_the_file_that_replaces_its_own(tmp_path: Path, seed: int) -> None:
    state = layers(seed, 2, 64)
    save_file(state, tmp_path / "m.safetensors")
    checkpoint = sc.load(tmp_path / "m.safetensors")
    sc.save(checkpoint.pack(), tmp_path / "m.safetensors")
    assert all(torch.equal(checkpoint[name], tensor) for name, tensor in state.items())
    assert all(torch.equal(sc.load(tmp_path / "m.safetensors")[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("change", ["cut", "written", "emptied"])
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path, seed: int, change: str) -> None:
    path = tmp_path / "m.safetensors"
    save_file(layers(seed, 2, 64), path)
    checkpoint = sc.load(path)
    assert checkpoint["1.weight"].shape == (64, 64)
    if change == "written":
        with path.open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"abcd")
        os.utime(path, ns=(0, 0))  # a clock too coarse to tell must not decide this test
    else:
        os.truncate(path, 0 if change == "emptied" else path.stat().st_size // 2)
    with pytest.raises(CorruptFileError, match=r"(?s)changed while it was read.*m\.safetensors"):
        checkpoint["1.weight"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.body = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16))
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embed.weight


def test_meta_models_keep_types_and_ties(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = Tied()
    sc.prune.one_shot(model.body, pattern="2:4")
    torch.save({n: t for n, t in model.state_dict().items() if n != "head.weight"}, tmp_path / "m.pt")
    with torch.device("meta"):
        fresh = Tied().half()
    fresh.head.weight = fresh.embed.weight
    sc.load(tmp_path / "m.pt", into=fresh)
    assert fresh.head.weight is fresh.embed.weight
    assert torch.equal(fresh.embed.weight, model.embed.weight.half())
    assert fresh.body[1].num_batches_tracked.dtype == torch.int64
    assert torch.equal(fresh.body[1].running_var, model.body[1].running_var.half())
    sc.save(sc.load(tmp_path / "m.pt", pack=True), tmp_path / "packed.safetensors")
    with torch.device("meta"):
        fresh = Tied()
    fresh.head.weight = fresh.embed.weight
    sc.load(tmp_path / "packed.safetensors", into=fresh)
    assert isinstance(fresh.body[0], sc.nn.SparseLinear)
    assert torch.equal(fresh.body[0].weight, model.body[0].weight)


def test_a_packed_layer_that_would_stay_on_the_meta_device_is_named(tmp_path: Path, seed: int) -> None:
    save_file(layers(seed, 1, 16), tmp_path / "m.safetensors")
    model = nn.Sequential(*(sc.nn.SparseLinear(16, 16, device="meta") for _ in range(2)))
    with pytest.raises(UnsupportedError, match=r"1\.weight|1\.bias"):
        sc.load(tmp_path / "m.safetensors", into=model, strict=False)


def test_damage_in_a_packed_weight_leaves_a_dense_model_as_it_was(tmp_path: Path, seed: int) -> None:
    state = layers(seed, 2, 64)
    save_file(state, tmp_path / "m.safetensors")
    sc.save(sc.load(tmp_path / "m.safetensors").pack(), tmp_path / "packed.safetensors")
    raw = bytearray((tmp_path / "packed.safetensors").read_bytes())
    mask = sc.load(tmp_path / "packed.safetensors").packed["1"].stored.tensors["bitmask"].numpy().tobytes()
    start = bytes(raw).index(mask)
    raw[start] ^= 0b1  # one bit: three of four, or one
    (tmp_path / "packed.safetensors").write_bytes(raw)
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).bfloat16()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CorruptFileError, match=r"packed\.safetensors: 1"):
        sc.load(tmp_path / "packed.safetensors", into=model)
    assert type(model[0]) is nn.Linear
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_weights_pruned_along_the_first_dimension_pack_turned(tmp_path: Path, seed: int) -> None:
    weight = layers(seed, 1, 64)["0.weight"].t().contiguous()
    save_file({"p.weight": weight}, tmp_path / "m.safetensors")
    packed = sc.load(tmp_path / "m.safetensors", pack=True)
    assert (packed.pattern("p.weight"), packed.packed["p"].transposed) == (sc.NM(2, 4), True)
    assert torch.equal(packed["p.weight"], weight)
    layer = nn.ModuleDict({"p": nn.Linear(64, 64, bias=False)}).bfloat16()
    sc.save(packed, tmp_path / "packed.safetensors")
    assert torch.equal(sc.load(tmp_path / "packed.safetensors", into=layer)["p"].weight, weight)
