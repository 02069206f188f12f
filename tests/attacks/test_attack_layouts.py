"""Malformed sparse tensors, semi-structured tensors, exported programs, masks, archives and indices of shards."""

from __future__ import annotations

import copy
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forge
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.sparse import SparseSemiStructuredTensorCUTLASS
from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass

import sparsecore as sc
from sparsecore.errors import CorruptFileError, PickleRefusedError, UnsupportedError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor"),
]


def compressed(pointers: list[int], indices: list[int], shape: tuple[int, int], layout: Any, block: Any = ()) -> Tensor:
    values = torch.ones(len(indices), *block)
    parts = (torch.tensor(pointers), torch.tensor(indices), values)
    return torch.sparse_compressed_tensor(*parts, shape, layout=layout, check_invariants=False)


def csr(pointers: list[int], indices: list[int], shape: tuple[int, int] = (2, 4)) -> Tensor:
    return compressed(pointers, indices, shape, torch.sparse_csr)


def coo(indices: list[list[int]], shape: tuple[int, ...] = (2, 4), count: int = 2) -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor(indices), torch.ones(count), shape, check_invariants=False)


SPARSE: dict[str, Callable[[], Tensor]] = {
    "csr, column past the end": lambda: csr([0, 1, 2], [0, 4]),
    "csr, negative column": lambda: csr([0, 1, 2], [0, -1]),
    "csr, column of 2^62": lambda: csr([0, 1, 2], [0, 2**62]),
    "csr, column twice": lambda: csr([0, 2, 2], [1, 1]),
    "csr, columns that fall": lambda: csr([0, 2, 2], [3, 1]),
    "csr, pointers past the values": lambda: csr([0, 1, 5], [0, 1]),
    "csr, pointers short of the values": lambda: csr([0, 1, 1], [0, 1]),
    "csr, pointers that fall": lambda: csr([0, 3, 2], [0, 1]),
    "csr, pointers that begin late": lambda: csr([1, 1, 2], [0, 1]),
    "csr, negative pointer": lambda: csr([0, -1, 2], [0, 1]),
    "csr, no values and wild pointers": lambda: csr([0, 2**40, 0], []),
    "csr, 16 TiB of nothing": lambda: csr([0] * 1025, [], (1024, 2**32)),
    "csc, row past the end": lambda: compressed([0, 1, 2, 2, 2], [0, 2], (2, 4), torch.sparse_csc),
    "bsr, block past the end": lambda: compressed([0, 1], [2], (2, 4), torch.sparse_bsr, (2, 2)),
    "bsr, block twice": lambda: compressed([0, 2], [1, 1], (2, 4), torch.sparse_bsr, (2, 2)),
    "bsc, pointers past the blocks": lambda: compressed([0, 1, 3], [0, 0], (2, 4), torch.sparse_bsc, (2, 2)),
    "coo, index past the end": lambda: coo([[0, 1], [0, 4]]),
    "coo, negative index": lambda: coo([[0, -1], [0, 1]]),
    "coo, 16 TiB of nothing": lambda: coo([[0, 1], [0, 1]], (2**21, 2**21)),
}  # fmt: skip


@pytest.mark.parametrize("name", ["p.weight", "p"])
@pytest.mark.parametrize("damage", SPARSE)
def test_damaged_sparse_tensors_are_refused(tmp_path: Path, damage: str, name: str) -> None:
    torch.save({name: SPARSE[damage]()}, tmp_path / "attack.pt")
    with pytest.raises(CorruptFileError, match=rf"attack\.pt(: {name})?"):
        sc.load(tmp_path / "attack.pt")


def semi_structured(**changes: Any) -> Tensor:
    dense = torch.ones(32, 64, dtype=torch.float16)
    dense[:, 2::4] = dense[:, 3::4] = 0
    packed, meta = sparse_semi_structured_from_dense_cutlass(dense)
    parts = {"shape": dense.shape, "packed": packed, "meta": meta, **changes}
    return SparseSemiStructuredTensorCUTLASS(parts["shape"], parts["packed"], parts["meta"], None, None, None)


SEMI_STRUCTURED: dict[str, Callable[[], Tensor]] = {
    "codes that are none": lambda: semi_structured(meta=torch.zeros(32, 4, dtype=torch.int16)),
    "metadata of another type": lambda: semi_structured(meta=torch.zeros(32, 4, dtype=torch.int32)),
    "metadata of another shape": lambda: semi_structured(meta=torch.zeros(32, 8, dtype=torch.int16)),
    "values of another shape": lambda: semi_structured(packed=torch.zeros(32, 16, dtype=torch.float16)),
    "a shape of 2^40": lambda: semi_structured(shape=torch.Size((2**40, 2**20))),
    "rows that are no tile": lambda: semi_structured(shape=torch.Size((31, 64))),
    "three dimensions": lambda: semi_structured(shape=torch.Size((2, 16, 64))),
    "a tensor inside that is sparse": lambda: semi_structured(meta=torch.eye(4).to_sparse()),
}


@pytest.mark.parametrize("damage", SEMI_STRUCTURED)
def test_damaged_semi_structured_tensors_are_refused(tmp_path: Path, damage: str) -> None:
    torch.save({"p.weight": SEMI_STRUCTURED[damage]()}, tmp_path / "attack.pt")
    with pytest.raises(CorruptFileError, match=r"semi-structured"):
        sc.load(tmp_path / "attack.pt")


# Exported programs and archives --------------------------------------------------------------------------------------


def program() -> dict[str, bytes]:
    """Entries of a correct exported program."""
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),)), buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


CONFIG = "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def entries() -> dict[str, bytes]:
    return program()


def changed(entries: dict[str, bytes], change: Callable[[dict[str, Any]], Any]) -> dict[str, bytes]:
    """The program with the entry of `weight` in its config changed."""
    name = next(name for name in entries if name.endswith(CONFIG))
    config = json.loads(entries[name])
    change(config["config"]["weight"])
    return {**entries, name: json.dumps(config).encode()}


def meta(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda weight: weight["tensor_meta"].update({key: value})


def sizes(*values: Any) -> list[dict[str, Any]]:
    return [{"as_int": value} for value in values]


PROGRAMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "sizes of 2^40": meta("sizes", sizes(2**20, 2**20)),
    "strides of 2^40": meta("strides", sizes(2**40, 1)),
    "strides of zero": lambda weight: weight["tensor_meta"].update(sizes=sizes(2**20, 3), strides=sizes(0, 1)),
    "a negative size": meta("sizes", sizes(-2, 3)),
    "a negative stride": meta("strides", sizes(-3, 1)),
    "an offset past the end": meta("storage_offset", {"as_int": 1}),
    "an offset of 2^80": meta("storage_offset", {"as_int": 2**80}),
    "more strides than sizes": meta("strides", sizes(3, 1, 1)),
    "sizes that are text": meta("sizes", [{"as_int": "2"}, {"as_int": 3}]),
    "sizes that are symbols": meta("sizes", [{"as_expr": "s0"}, {"as_int": 3}]),
    "no metadata": lambda weight: weight.pop("tensor_meta"),
    "an entry that is not there": lambda weight: weight.update(path_name="weight_9"),
    "an entry out of the folder": lambda weight: weight.update(path_name="../../models/model.json/x"),
    "a type of another width": meta("dtype", 8),
}


def zipped(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("damage", PROGRAMS)
def test_damaged_programs_are_refused(tmp_path: Path, entries: dict[str, bytes], damage: str) -> None:
    zipped(tmp_path / "attack.pt2", changed(entries, PROGRAMS[damage]))
    with pytest.raises(CorruptFileError, match=r"attack\.pt2"):
        sc.load(tmp_path / "attack.pt2")


def test_what_the_attacks_on_programs_start_from_is_correct(tmp_path: Path, entries: dict[str, bytes]) -> None:
    zipped(tmp_path / "good.pt2", changed(copy.deepcopy(entries), lambda weight: None))
    assert sc.load(tmp_path / "good.pt2")["weight"].shape == (2, 3)


def test_programs_that_need_a_pickle_are_refused(tmp_path: Path, entries: dict[str, bytes]) -> None:
    zipped(tmp_path / "attack.pt2", changed(entries, lambda weight: weight.update(use_pickle=True)))
    with pytest.raises(UnsupportedError, match=r"(?s)pickle.*attack\.pt2: weight"):
        sc.load(tmp_path / "attack.pt2")

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "RAN"),)

    inner = io.BytesIO()
    torch.save({"weight": Evil()}, inner)
    old = {"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": inner.getvalue()}
    zipped(tmp_path / "old.pt2", old)
    with pytest.raises(PickleRefusedError, match=r"old\.pt2"):
        sc.load(tmp_path / "old.pt2")
    assert not (tmp_path / "RAN").exists()


def state_dict() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(64.0).reshape(8, 8)}, buffer)
    return buffer.getvalue()


def central(raw: bytes, name: bytes) -> int:
    """Where the directory entry of `name` begins."""
    at = raw.index(b"PK\x01\x02")
    while raw[at + 46 :].startswith(name) is False:
        at = raw.index(b"PK\x01\x02", at + 4)
    return at


def patched(raw: bytes, at: int, layout: str, value: int) -> bytes:
    data = bytearray(raw)
    struct.pack_into(layout, data, at, value)
    return bytes(data)


def name_of(raw: bytes, end: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return next(name for name in archive.namelist() if name.endswith(end)).encode()


def twice(raw: bytes) -> bytes:
    """A second entry of the same name behind the first one."""
    with zipfile.ZipFile(io.BytesIO(raw)) as source:
        names = [(name, source.read(name)) for name in source.namelist()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, data in (*names, next(pair for pair in names if pair[0].endswith("data/0"))):
            target.writestr(name, data)
    return buffer.getvalue()


def lying(raw: bytes, end: str, field: int, layout: str, value: int) -> bytes:
    return patched(raw, central(raw, name_of(raw, end)) + field, layout, value)


ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "a name twice": twice,
    "an entry that is longer in the directory": lambda raw: lying(
        lying(raw, "data/0", 24, "<I", 2**20), "data/0", 20, "<I", 2**20
    ),
    "an entry that overlaps the next": lambda raw: lying(
        lying(raw, "data.pkl", 24, "<I", 600), "data.pkl", 20, "<I", 600
    ),
    "an entry at the place of another": lambda raw: lying(raw, "data/0", 42, "<I", 0),
    "an entry past the end": lambda raw: lying(raw, "data/0", 42, "<I", 2**31),
    "an entry where none begins": lambda raw: lying(raw, "data/0", 42, "<I", 5),
    "an entry that is encrypted": lambda raw: lying(raw, "data/0", 8, "<H", 1),
    "another name in its own header": lambda raw: raw.replace(
        name_of(raw, "data/0"), name_of(raw, "data/0")[:-1] + b"1", 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", ARCHIVES)
def test_archives_that_lie_are_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "attack.pt").write_bytes(ARCHIVES[damage](state_dict()))
    with pytest.raises(CorruptFileError, match=r"attack\.pt"):
        sc.load(tmp_path / "attack.pt")


def test_a_zip_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    """Half a gigabyte of zeros in half a megabyte; also dressed as a TorchScript archive and as an exported program."""
    bomb = bytes(2**29)
    for number, more in enumerate(({}, {"m/constants.pkl": b""}, {"m/archive_format": b"pt2"})):
        zipped(tmp_path / f"{number}.pt", {"m/data.pkl": b"", "m/data/0": bomb, **more}, zipfile.ZIP_DEFLATED)
    del bomb
    code = (
        "import pathlib, resource, sparsecore as sc, sparsecore.io.torch_files\n"
        "from sparsecore.errors import CorruptFileError, PickleRefusedError\n"
        "held = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**28, held + 2**28))\n"
        "for number, error in enumerate((CorruptFileError, PickleRefusedError, CorruptFileError)):\n"
        "    try: sc.load(f'{number}.pt')\n"
        "    except error: pass\n"
        "    else: raise SystemExit(f'{number} was not refused')\n"
        "print('all refused')\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.strip() == "all refused", done.stderr


# Masks and shards ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, float("nan"), float("inf")])
def test_masks_that_are_not_0_or_1_are_refused(tmp_path: Path, value: float) -> None:
    weight, mask = np.ones((3, 4), np.float32), np.ones((3, 4), np.float32)
    mask[1, 2] = value
    forge.arrays(tmp_path / "attack.safetensors", {"fc.weight_orig": weight, "fc.weight_mask": mask})
    with pytest.raises(CorruptFileError, match=r"(?s)other values than 0 and 1.*attack\.safetensors: fc\.weight"):
        sc.load(tmp_path / "attack.safetensors")
    layer = nn.ModuleDict({"fc": nn.Linear(4, 3, bias=False)})
    with pytest.raises(CorruptFileError, match="other values than 0 and 1"):
        sc.load(tmp_path / "attack.safetensors", into=layer)


def test_a_masked_weight_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    ones = np.ones((3, 4), np.float32)
    forge.arrays(tmp_path / "attack.safetensors", dict.fromkeys(("w_orig", "w_mask", "w"), ones))
    with pytest.raises(CorruptFileError, match="a weight is there twice"):
        sc.load(tmp_path / "attack.safetensors")


def sharded(folder: Path, index: str) -> Path:
    folder.mkdir()
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, folder / "model-00001-of-00002.safetensors")
    save_file({"c": torch.ones(2), "b": torch.zeros(2)}, folder / "model-00002-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(index)
    return folder


def test_tensors_that_are_in_two_shards_are_refused(tmp_path: Path) -> None:
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    folder = sharded(tmp_path / "shards", json.dumps({"weight_map": {"a": one, "b": one, "c": two}}))
    with pytest.raises(CorruptFileError, match="'b' is there twice"):
        sc.load(folder)
    folder = sharded(tmp_path / "index", f'{{"weight_map": {{"a": "{one}", "c": "{two}", "a": "{two}"}}}}')
    with pytest.raises(CorruptFileError, match=r"(?s)'a' is there twice.*index\.json"):
        sc.load(folder)


def test_a_shard_that_is_cut_or_a_folder_is_named(tmp_path: Path) -> None:
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    folder = sharded(tmp_path / "hf", json.dumps({"weight_map": {"a": one, "c": two}}))
    os.truncate(folder / two, (folder / two).stat().st_size - 1)
    with pytest.raises(CorruptFileError, match=two.replace(".", r"\.")):
        sc.load(folder)


def test_marlin_weights_are_refused_by_their_names(tmp_path: Path) -> None:
    words = np.zeros((2, 2), np.int32)
    names = ("fc.weight_packed", "fc.scale_packed", "fc.meta")
    forge.arrays(tmp_path / "m.safetensors", dict.fromkeys(names, words))
    with pytest.raises(UnsupportedError, match="marlin-24"):
        sc.load(tmp_path / "m.safetensors")
