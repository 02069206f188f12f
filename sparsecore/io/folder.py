"""Hugging Face folders: config.json beside model.safetensors, pytorch_model.bin or a sharded index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.files import read_bytes, read_json
from sparsecore.errors import CorruptFileError, FileMissingError, UnsupportedError
from sparsecore.io.checkpoint import PackedEntry
from sparsecore.io.json_text import strict_json
from sparsecore.io.names import join
from sparsecore.io.opened import Opened
from sparsecore.io.tensors import LazyTensor, LazyTensors

__all__ = ["files_of", "read_config", "read_sharded", "transposed_by_config"]

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEXED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# Their tensors are permuted for one kernel and mean nothing without it.
_OPAQUE = ("marlin-24", "marlin_24")


def files_of(folder: Path) -> Path:
    """Return the file of `folder` to read: a weights file, or an index of several; safetensors come first.

    Raises FileMissingError where the folder has none, UnsupportedError for weights in a layout private to one kernel.
    """
    _check_layout(read_config(folder), folder)
    for single, index in zip(_SINGLE, _INDEXED, strict=True):
        for name in (single, index):
            if (folder / name).is_file():
                return folder / name
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others[0]
    raise FileMissingError(
        "the folder has no weights that can be read", where=str(folder), expected=" or ".join(_SINGLE + _INDEXED)
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json of `folder`, empty where there is none; CorruptFileError where it is damaged."""
    config = folder / "config.json"
    return read_json(config) if config.is_file() else {}


def transposed_by_config(config: Mapping[str, Any]) -> dict[str, bool]:
    """Packed modules that the quantization_config of our folders lists; True where one stands for a Conv1D.

    Without a model this alone says which way the dense weight lies. Empty for other folders.
    """
    said = config.get("quantization_config")
    listed = said.get("modules") if isinstance(said, dict) and said.get("quant_method") == "sparsecore" else None
    if not isinstance(listed, dict):
        return {}
    return {name: entry.get("transposed") is True for name, entry in listed.items() if isinstance(entry, dict)}


def read_sharded(index: Path, read: Callable[[Path], Opened]) -> Opened:
    """Return what all shards that `index` lists hold together, each shard opened by `read`.

    Raises CorruptFileError where the index is damaged, leads out of its folder, names a tensor that its shard does not
    have or that another shard has too; FileMissingError where a shard is missing.
    """
    tensors: dict[str, LazyTensor] = {}
    packed: dict[str, PackedEntry] = {}
    places: dict[str, str] = {}
    kind = ""
    for file, names in sorted(_shards(index).items()):
        shard = index.parent / file
        if not shard.is_file():
            raise FileMissingError("a shard of the checkpoint is missing", where=str(shard))
        opened = read(shard)
        kind, modules = opened.kind, {join(module, "weight"): module for module in opened.packed}
        for name in (*opened.tensors, *modules):
            if places.setdefault(name, file) != file:
                expected = f"it in {places[name]} or here, not in both"
                raise CorruptFileError(f"{name!r} is there twice", where=str(shard), expected=expected)
        for name in names:
            if name in opened.tensors:
                tensors[name] = opened.tensors.entry(name)
            elif name in modules:
                packed[modules[name]] = opened.packed[modules[name]]
            else:
                expected = f"what {index.name} lists"
                raise CorruptFileError(f"the shard lacks {name!r}", where=str(shard), expected=expected)
    return Opened(kind, LazyTensors(tensors), packed)


def _shards(index: Path) -> dict[str, list[str]]:
    """File names of the shards, each with the names of its tensors."""
    weight_map = strict_json(read_bytes(index), index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptFileError("the index has no weight_map", where=str(index), expected="tensor name -> file name")
    wanted: dict[str, list[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or file in ("", ".", ".."):
            raise CorruptFileError(
                f"the index sends {name!r} to {file!r}", where=str(index), expected="a plain file name"
            )
        wanted.setdefault(file, []).append(name)
    return wanted


def _check_layout(config: dict[str, Any], folder: Path) -> None:
    quantised = config.get("quantization_config")
    sparse = quantised.get("sparsity_config") if isinstance(quantised, dict) else None
    for part in (quantised, sparse):
        layout = part.get("format") if isinstance(part, dict) else None
        if layout in _OPAQUE:
            raise UnsupportedError(
                f"the weights are in the layout {layout!r}, made for one GPU kernel",
                where=str(folder / "config.json"),
                expected="dense weights with zeros, sparse-24-bitmask or sparse-bitmask",
            )
