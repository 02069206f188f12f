"""The file format itself: a file written long ago, an independent decoder, and what compressed-tensors defines."""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import sparsecore as sc
from sparsecore.errors import CorruptFileError, FormatVersionError
from sparsecore.io.header import Header

DATA = Path(__file__).parents[1] / "data"


def formula() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_formula", DATA / "golden_formula.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_by_hand(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, str]]:
    """(arrays, dtype names, metadata) of a safetensors file, with nothing but json and numpy; bf16 as its raw bits."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    kinds = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "I64": "<i8", "I32": "<i4"}
    arrays = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        arrays[name] = np.frombuffer(raw[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return arrays, {name: entry["dtype"] for name, entry in header.items()}, metadata


def decode_24(shape: np.ndarray, compressed: np.ndarray, bitmask: np.ndarray) -> np.ndarray:
    """sparse-24-bitmask as compressed-tensors reads it: bit i of byte j is column 8j + i; values in row-major order."""
    rows, cols = shape.flatten().tolist()
    mask = np.unpackbits(bitmask, axis=1, count=cols, bitorder="little").astype(bool)
    dense = np.zeros((rows, cols), compressed.dtype)
    dense[mask] = compressed.reshape(-1)
    return dense


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor


def test_the_golden_file_reads_bit_for_bit() -> None:
    golden = formula()
    checkpoint = sc.load(golden.PATH)
    assert (checkpoint.kind, checkpoint.version) == ("sparsecore", "1.0")
    assert set(checkpoint.packed) == set(golden.PACKED)
    for name, (pattern, rows, cols, dtype) in golden.PACKED.items():
        entry = checkpoint.packed[name]
        expected = golden.dense(pattern, rows, cols, dtype)
        assert entry.stored.pattern.name == pattern
        assert entry.stored.dtype == dtype
        assert torch.equal(bits(checkpoint[f"{name}.weight"]), bits(expected))
        assert torch.equal(bits(checkpoint[f"{name}.bias"]), bits(golden.bias(rows, dtype)))
        packed_now = sc.pack(expected, pattern).tensors
        assert set(packed_now) == set(entry.stored.tensors)
        assert all(torch.equal(bits(entry.stored.tensors[key]), bits(packed_now[key])) for key in packed_now), name
    assert torch.equal(checkpoint["embed.weight"], golden.embedding())
    assert torch.equal(checkpoint["head.weight"], golden.embedding())


def test_the_golden_file_fills_the_model_that_it_came_from() -> None:
    golden = formula()
    expected, found = golden.model(), golden.model()
    for parameter in found.parameters():
        parameter.data.zero_()
    sc.load(golden.PATH, into=found)
    ours, theirs = expected.state_dict(), found.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_golden_file_is_small_and_its_header_says_what_is_in_it() -> None:
    golden = formula()
    assert golden.PATH.stat().st_size < 12_000
    arrays, _, metadata = read_by_hand(golden.PATH)
    header = json.loads(metadata["sparsecore"])
    assert header["version"] == "1.0"
    assert header["modules"]["codes"] == {"dtype": "float16", "pattern": "1:8", "shape": [9, 70], "transposed": False}
    assert header["aliases"] == {"head.weight": "embed.weight"}
    assert "head.weight" not in arrays
    assert metadata["format"] == "pt"


def test_an_independent_decoder_reads_our_24_files(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        layer = nn.Linear(88, 33, dtype=dtype)
        sc.prune.one_shot(layer, pattern="2:4")
        expected = layer.weight.detach().clone()
        path = tmp_path / "model.safetensors"
        sc.save(nn.ModuleDict({"p": sc.nn.SparseLinear.from_dense(layer, "2:4")}), path)
        arrays, kinds, _ = read_by_hand(path)
        assert {name.removeprefix("p.") for name in arrays} == {"shape", "compressed", "bitmask", "bias"}
        assert (arrays["p.shape"].shape, kinds["p.shape"]) == ((2, 1), "I64")
        assert (arrays["p.compressed"].shape, arrays["p.bitmask"].shape) == ((33, 44), (33, 11))
        assert kinds["p.bitmask"] == "U8"
        dense = decode_24(arrays["p.shape"], arrays["p.compressed"], arrays["p.bitmask"])
        wanted = expected.view(torch.uint16 if dtype == torch.bfloat16 else dtype).numpy()
        assert np.array_equal(dense.view(np.uint8), wanted.view(np.uint8))


def encode_24(dense: np.ndarray) -> dict[str, np.ndarray]:
    """sparse-24-bitmask as compressed-tensors writes it: the two largest magnitudes of each group of four."""
    groups = np.abs(dense.reshape(-1, 4))
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, np.argsort(-groups, axis=1, kind="stable")[:, :2], True, axis=1)
    mask = mask.reshape(dense.shape)
    return {
        "shape": np.array(dense.shape, np.int64).reshape(2, 1),
        "compressed": dense[mask].reshape(dense.shape[0], -1),
        "bitmask": np.packbits(mask, axis=1, bitorder="little"),
    }


@pytest.mark.parametrize("prefix", ["layer.p", "layer.p.weight"])
def test_24_files_of_compressed_tensors_read(tmp_path: Path, seed: int, prefix: str) -> None:
    weight = np.random.default_rng(seed).standard_normal((12, 24), dtype=np.float32)
    tensors = {f"{prefix}.{name}": torch.from_numpy(array) for name, array in encode_24(weight).items()}
    save_file({**tensors, "norm.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    checkpoint = sc.load(tmp_path / "model.safetensors")
    expected = np.where(np.isin(weight, tensors[f"{prefix}.compressed"].numpy()), weight, 0)
    assert checkpoint.kind == "compressed-tensors"
    assert set(checkpoint) == {"layer.p.weight", "norm.weight"}
    assert checkpoint.pattern("layer.p.weight") == sc.NM(2, 4)
    assert np.array_equal(checkpoint["layer.p.weight"].numpy(), expected)


def test_what_we_write_for_24_is_what_compressed_tensors_writes(tmp_path: Path, seed: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((16, 32), dtype=np.float32)
    theirs = encode_24(weight)
    layer = nn.Linear(32, 16, bias=False)
    layer.weight.data.copy_(torch.from_numpy(weight))
    sc.prune.one_shot(layer, pattern="2:4")
    sc.save(nn.ModuleDict({"p": sc.nn.SparseLinear.from_dense(layer, "2:4")}), tmp_path / "ours.safetensors")
    ours, _, _ = read_by_hand(tmp_path / "ours.safetensors")
    assert set(ours) == {f"p.{name}" for name in theirs}
    for name, array in theirs.items():
        assert ours[f"p.{name}"].dtype == array.dtype
        assert np.array_equal(ours[f"p.{name}"], array), name


def test_bitmask_files_of_compressed_tensors_read(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((9, 21), dtype=np.float32) * (generator.random((9, 21)) < 0.2)
    mask = weight != 0
    counts = mask.sum(1)
    tensors = {
        "p.weight.shape": torch.tensor([[9], [21]]),
        "p.weight.compressed": torch.from_numpy(weight[mask]),
        "p.weight.bitmask": torch.from_numpy(np.packbits(mask, axis=1, bitorder="little")),
        "p.weight.row_offsets": torch.from_numpy(np.cumsum(counts) - counts),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = sc.load(tmp_path / "model.safetensors")
    assert checkpoint.pattern("p.weight") == sc.Unstructured()
    assert np.array_equal(checkpoint["p.weight"].numpy(), weight)


def test_24_bf16_takes_at_most_057_of_the_dense_layer_in_file_and_memory(tmp_path: Path) -> None:
    layer = nn.Linear(1024, 4096, dtype=torch.bfloat16)  # the first FFN layer of BERT-large
    dense_bytes = sum(p.numel() * p.element_size() for p in layer.parameters())
    sc.prune.one_shot(layer, pattern="2:4")
    packed = sc.nn.SparseLinear.from_dense(layer, "2:4")
    sc.save(nn.ModuleDict({"fc": packed}), tmp_path / "fc.safetensors")
    assert (tmp_path / "fc.safetensors").stat().st_size <= 0.57 * dense_bytes
    assert packed.packed.nbytes <= 0.57 * dense_bytes
    assert packed.held_bytes <= 0.57 * dense_bytes


def with_version(golden: Path, target: Path, version: object) -> Path:
    metadata = json.loads(read_by_hand(golden)[2]["sparsecore"])
    metadata["version"] = version
    metadata["something_new"] = {"a": 1}
    save_file(load_file(golden), target, {"sparsecore": json.dumps(metadata)})
    return target


def test_a_newer_minor_version_reads_and_a_newer_major_is_refused_by_name(tmp_path: Path) -> None:
    golden = formula().PATH
    checkpoint = sc.load(with_version(golden, tmp_path / "minor.safetensors", "1.7"))
    assert checkpoint.version == "1.7"
    assert len(checkpoint.packed) == 5
    with pytest.raises(FormatVersionError, match=r"(?s)2\.0.*newer"):
        sc.load(with_version(golden, tmp_path / "major.safetensors", "2.0"))


@pytest.mark.parametrize("version", [None, 1, "1", "one.two", "9" * 5000 + ".0", "1.0.0"])
def test_an_unreadable_version_is_named(tmp_path: Path, version: object) -> None:
    with pytest.raises(CorruptFileError, match="version"):
        sc.load(with_version(formula().PATH, tmp_path / "bad.safetensors", version))


def test_the_header_survives_its_own_text() -> None:
    header = Header.from_json(json.loads(json.dumps(read_by_hand(formula().PATH)[2]["sparsecore"])), "golden")
    assert Header.from_json(header.to_json(), "again") == header
