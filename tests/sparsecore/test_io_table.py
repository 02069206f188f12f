"""The table of docs/formats.md, row by row: files built from their published layouts are found, loaded and computed."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from torch.sparse import SparseSemiStructuredTensorCUTLASS
from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass
from weights import assert_close, exact_linear, random_mask

import sparsecore as sc
from sparsecore.packed import PackedWeight
from sparsecore.patterns import NM, Block, Pattern, Unstructured

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]

ROWS, COLS = 96, 128


@dataclass
class Written:
    """A file of one layer, fc, and what is to be found in it. `path` may be a folder."""

    path: Path
    kind: str
    dense: Tensor
    pattern: Pattern | None
    masks: Path | None = None
    also: dict[str, Tensor] = field(default_factory=dict)


def pruned(pattern: Pattern, seed: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    density = 0.25 if isinstance(pattern, Block) else 0.15
    values = torch.rand(ROWS, COLS, generator=rng) + 0.5
    return torch.where(random_mask(ROWS, COLS, pattern, rng, density), values, 0).to(dtype)


def folder(path: Path, state: dict[str, Tensor], config: dict[str, Any] | None = None, shards: int = 1) -> Path:
    """A Hugging Face folder; from two shards on with an index."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config or {"model_type": "bert"}))
    if shards == 1:
        save_file(state, path / "model.safetensors")
        return path
    files = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(sorted(state))}
    for file in set(files.values()):
        save_file({name: state[name] for name in state if files[name] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return path


def zeros(pattern: Pattern, shards: int = 1) -> Callable[[Path, int], Written]:
    def write(path: Path, seed: int) -> Written:
        dense = pruned(pattern, seed)
        state = {"fc.weight": dense, "fc.bias": torch.ones(ROWS).bfloat16()}
        return Written(folder(path / "hf", state, shards=shards), "safetensors", dense, pattern)

    return write


def rows_gone(path: Path, seed: int) -> Written:
    dense = pruned(Unstructured(), seed).fill_(1.5)
    dense[torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed))[:40]] = 0
    return Written(folder(path / "hf", {"fc.weight": dense}), "safetensors", dense, Block(1, 32))


def packbits(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.numpy(), axis=1, bitorder="little"))


def bitmask_24(dense: Tensor, prefix: str = "fc.") -> dict[str, Tensor]:
    """sparse-24-bitmask: of each group the two of largest magnitude, in ascending position."""
    mask = torch.zeros(dense.numel() // 4, 4, dtype=torch.bool)
    mask.scatter_(1, dense.view(-1, 4).abs().topk(2, dim=1).indices, True)
    mask = mask.view(dense.shape)
    compressed = dense[mask].reshape(len(dense), -1)
    return {
        f"{prefix}shape": torch.tensor(dense.shape).reshape(-1, 1),
        f"{prefix}compressed": compressed,
        f"{prefix}bitmask": packbits(mask),
    }


def bitmask(dense: Tensor, prefix: str = "fc.") -> dict[str, Tensor]:
    """sparse-bitmask: the non-zeros row by row, and where each row starts."""
    mask = dense != 0
    counts = mask.sum(1)
    return {
        f"{prefix}shape": torch.tensor(dense.shape),
        f"{prefix}compressed": dense[mask],
        f"{prefix}bitmask": packbits(mask),
        f"{prefix}row_offsets": counts.cumsum(0) - counts,
    }


def compressed_tensors(
    pattern: Pattern, build: Callable[..., dict[str, Tensor]], prefix: str = "fc."
) -> Callable[[Path, int], Written]:
    def write(path: Path, seed: int) -> Written:
        dense = pruned(pattern, seed)
        name = "sparse-24-bitmask" if isinstance(pattern, NM) else "sparse-bitmask"
        config = {"quantization_config": {"quant_method": "compressed-tensors", "sparsity_config": {"format": name}}}
        state = {**build(dense, prefix), "fc.bias": torch.ones(ROWS).bfloat16()}
        return Written(folder(path / "hf", state, config), "compressed-tensors", dense, pattern)

    return write


def saved(state: dict[str, Any], path: Path) -> Path:
    torch.save(state, path / "m.pt")
    return path / "m.pt"


def state_dict(path: Path, seed: int) -> Written:
    dense = pruned(NM(2, 4), seed)
    return Written(saved({"fc.weight": dense}, path), "state dict", dense, NM(2, 4))


def orig_and_mask(path: Path, seed: int) -> Written:
    torch.manual_seed(seed)
    model = nn.ModuleDict({"fc": nn.Linear(COLS, ROWS)}).bfloat16()
    torch_prune.random_unstructured(model["fc"], "weight", amount=0.85)
    dense = model["fc"].weight.detach().clone()
    return Written(saved(model.state_dict(), path), "state dict", dense, Unstructured())


def mask_file(path: Path, seed: int) -> Written:
    dense = pruned(NM(1, 4), seed)
    torch.save({"fc": {"weight": (dense != 0).float()}}, path / "mask.pth")
    filled = torch.where(dense != 0, dense, 7)
    return Written(saved({"fc.weight": filled}, path), "state dict", dense, NM(1, 4), masks=path / "mask.pth")


def nncf(path: Path, seed: int) -> Written:
    dense = pruned(Unstructured(), seed)
    state = {"fc.weight": dense.where(dense != 0, 7), "__nncf_hooks.post_hooks.fc:weight__0.0.binary_mask": dense != 0}
    return Written(saved(state, path), "state dict", dense, Unstructured())


def sparse_layout(pattern: Pattern, convert: Callable[[Tensor], Tensor]) -> Callable[[Path, int], Written]:
    def write(path: Path, seed: int) -> Written:
        dense = pruned(pattern, seed)
        return Written(saved({"fc.weight": convert(dense)}, path), "state dict", dense, pattern)

    return write


def semi_structured(path: Path, seed: int) -> Written:
    dense = pruned(NM(2, 4), seed)
    packed, meta = sparse_semi_structured_from_dense_cutlass(dense)
    tensor = SparseSemiStructuredTensorCUTLASS(dense.shape, packed, meta, None, None, None)
    return Written(saved({"fc.weight": tensor}, path), "state dict", dense, NM(2, 4))


def exported(path: Path, seed: int) -> Written:
    dense = pruned(NM(2, 4), seed)
    model = nn.Sequential()
    model.add_module("fc", nn.Linear(COLS, ROWS).bfloat16())
    model.fc.weight = nn.Parameter(dense)
    torch.export.save(torch.export.export(model, (torch.ones(1, COLS).bfloat16(),)), path / "m.pt2")
    return Written(path / "m.pt2", "exported program", dense, NM(2, 4))


def ours(pattern: Pattern) -> Callable[[Path, int], Written]:
    def write(path: Path, seed: int) -> Written:
        dense = pruned(pattern, seed)
        plain = io.BytesIO()
        torch.save({"fc.weight": dense}, plain)
        (path / "plain.pt").write_bytes(plain.getvalue())
        sc.save(sc.load(path / "plain.pt", pack=True), path / "m.safetensors")
        return Written(path / "m.safetensors", "sparsecore", dense, pattern)

    return write


FORMATS: dict[str, Callable[[Path, int], Written]] = {
    "folder, N:M": zeros(NM(2, 4)),
    "folder, 1:8": zeros(NM(1, 8)),
    "folder, block": zeros(Block(16, 16)),
    "folder, unstructured": zeros(Unstructured()),
    "folder, rows": rows_gone,
    "folder, shards": zeros(NM(2, 4), shards=2),
    "sparse-24-bitmask": compressed_tensors(NM(2, 4), bitmask_24),
    "sparse-bitmask": compressed_tensors(Unstructured(), bitmask),
    "sparse-bitmask, long names": compressed_tensors(Unstructured(), bitmask, "fc.weight."),
    "state dict": state_dict,
    "orig and mask": orig_and_mask,
    "mask file": mask_file,
    "NNCF": nncf,
    "CSR": sparse_layout(Unstructured(), Tensor.to_sparse_csr),
    "BSR": sparse_layout(Block(8, 8), lambda dense: dense.to_sparse_bsr((8, 8))),
    "CUTLASS": semi_structured,
    "exported program": exported,
    "sparsecore": ours(NM(2, 4)),
    "sparsecore, block": ours(Block(16, 16)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_found(tmp_path: Path, seed: int, name: str) -> None:
    written = FORMATS[name](tmp_path, seed)
    checkpoint = sc.load(written.path, masks=written.masks)
    assert checkpoint.kind == written.kind
    assert checkpoint.pattern("fc.weight") == written.pattern
    assert checkpoint.shape("fc.weight") == (ROWS, COLS)
    assert torch.equal(checkpoint["fc.weight"], written.dense)


@pytest.mark.parametrize("name", FORMATS)
def test_it_loads_into_a_model(tmp_path: Path, seed: int, name: str) -> None:
    written = FORMATS[name](tmp_path, seed)
    model = nn.ModuleDict({"fc": nn.Linear(COLS, ROWS)}).bfloat16()
    sc.load(written.path, into=model, strict=False, masks=written.masks)
    assert torch.equal(model["fc"].weight, written.dense)
    packed = nn.ModuleDict({"fc": sc.nn.SparseLinear(COLS, ROWS, pattern=written.pattern, dtype=torch.bfloat16)})
    sc.load(written.path, into=packed, strict=False, masks=written.masks)
    assert torch.equal(packed["fc"].weight, written.dense)


@pytest.mark.parametrize("name", FORMATS)
def test_the_packed_weight_computes_what_the_dense_one_does(tmp_path: Path, seed: int, name: str) -> None:
    written = FORMATS[name](tmp_path, seed)
    entry = sc.load(written.path, pack=True, masks=written.masks).packed["fc"]
    x = torch.randn(5, COLS, generator=torch.Generator().manual_seed(seed)).bfloat16()
    mask = entry.stored.keep_mask()
    exact = exact_linear(x, written.dense, mask, None)
    magnitude = exact_linear(x.abs(), written.dense.abs(), mask, None)
    assert_close(PackedWeight.from_stored(entry.stored).linear(x), exact, magnitude, COLS)


@pytest.mark.parametrize("name", FORMATS)
def test_packed_it_takes_the_bytes_that_the_table_says(tmp_path: Path, seed: int, name: str) -> None:
    written = FORMATS[name](tmp_path, seed)
    packed = sc.load(written.path, pack=True, masks=written.masks)
    share = packed.nbytes("fc.weight") / (written.dense.numel() * written.dense.element_size())
    density = int(written.dense.count_nonzero()) / written.dense.numel()
    bound = {
        "2:4": 9 / 16, "1:4": 9 / 32, "1:8": (16 + 3) / 128, "unstructured": density + 1 / 16 + 4 / COLS,
    }.get(written.pattern.name, density + 0.1)  # fmt: skip
    assert share <= bound + 48 / (2 * ROWS * COLS)


@pytest.mark.parametrize("name", FORMATS)
def test_saved_as_our_own_file_it_comes_back(tmp_path: Path, seed: int, name: str) -> None:
    written = FORMATS[name](tmp_path, seed)
    packed = sc.load(written.path, pack=True, masks=written.masks)
    sc.save(packed, tmp_path / "again.safetensors")
    again = sc.load(tmp_path / "again.safetensors")
    assert (again.kind, again.pattern("fc.weight")) == ("sparsecore", packed.pattern("fc.weight"))
    assert torch.equal(again["fc.weight"], written.dense)


def by_library(kind: str, dense: Tensor) -> dict[str, Tensor]:
    """The tensors that compressed-tensors itself makes of `dense`."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.config import BitmaskConfig, Sparse24BitMaskConfig

    config = Sparse24BitMaskConfig if kind == "sparse-24-bitmask" else BitmaskConfig
    writer = BaseCompressor.load_from_registry(kind, config=config(format=kind))
    return dict(writer.compress({"fc.weight": dense}, compression_targets={"fc"}, show_progress=False))


def has_sparse_writers() -> bool:
    """Releases of compressed-tensors from 0.15 on have none."""
    found = importlib.util.find_spec("compressed_tensors")
    return found is not None and (Path(str(found.origin)).parent / "compressors" / "sparse_compressors").is_dir()


# The published layout is always tested; where the library that wrote it is installed, its own files are too.
WRITERS = {"by hand": lambda kind, dense: (bitmask_24 if kind == "sparse-24-bitmask" else bitmask)(dense)}
if has_sparse_writers():
    WRITERS["by the library"] = by_library


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["sparse-24-bitmask", "sparse-bitmask"])
@pytest.mark.parametrize("writer", WRITERS)
def test_files_of_compressed_tensors_are_read(
    tmp_path: Path, seed: int, writer: str, kind: str, dtype: torch.dtype
) -> None:
    pattern = NM(2, 4) if kind == "sparse-24-bitmask" else Unstructured()
    dense = pruned(pattern, seed, dtype)
    dense[3] = 0  # groups with fewer non-zeros than two
    tensors = WRITERS[writer](kind, dense)
    assert {name: t.tolist() for name, t in tensors.items()} == {
        name: t.tolist() for name, t in WRITERS["by hand"](kind, dense).items()
    }
    save_file(tensors, tmp_path / "m.safetensors")
    checkpoint = sc.load(tmp_path / "m.safetensors")
    assert (checkpoint.kind, checkpoint.pattern("fc.weight")) == ("compressed-tensors", pattern)
    assert torch.equal(checkpoint["fc.weight"], dense)
