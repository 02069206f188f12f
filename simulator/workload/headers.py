"""Names, shapes and patterns of the weights in safetensors files, from their headers: no weight is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from simulator.errors import CorruptFileError, FileMissingError
from simulator.files import check_version, parse_json, read_json
from simulator.workload.build import Pattern
from simulator.workload.recognise import Tensor

__all__ = ["Weights", "is_safetensors", "read_folder", "read_safetensors"]

_MAX_HEADER = 100_000_000  # the limit of the safetensors library


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a model file: dense shapes by name, and the pattern of those stored sparse."""

    tensors: Mapping[str, Tensor]
    patterns: Mapping[str, Pattern]


def is_safetensors(path: Path) -> bool:
    """Tell whether a file looks like safetensors, by its name or its first bytes."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as stream:
        start = stream.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= _MAX_HEADER


def read_safetensors(path: Path) -> Weights:
    """Read the header of one file.

    Raises
    ------
    FileMissingError: no such file. CorruptFileError: truncated, or not safetensors. FormatVersionError: packed by a
        newer sparsecore.
    """
    if not path.is_file():
        raise FileMissingError("the file does not exist", where=str(path))
    with path.open("rb") as stream:
        header, start = _header(stream, path)
        transposed = _transposed(header.pop("__metadata__", None), str(path))
        return _weights(header, stream, start, transposed, str(path))


def read_folder(folder: Path) -> Weights | None:
    """Read the headers of a Hugging Face folder's safetensors files; None where it has none.

    Raises
    ------
    FileMissingError: a shard that the index names is not there. CorruptFileError: as `read_safetensors`.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = read_json(index).get("weight_map")
        plain = isinstance(shards, dict) and all(isinstance(n, str) and Path(n).name == n for n in shards.values())
        if not plain or not shards:
            raise CorruptFileError("the index has no usable weight_map", where=str(index), expected="names of files")
        parts = [read_safetensors(folder / name) for name in sorted(set(shards.values()))]
    elif (folder / "model.safetensors").is_file():
        parts = [read_safetensors(folder / "model.safetensors")]
    else:
        return None
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    return Weights(tensors, {name: pattern for part in parts for name, pattern in part.patterns.items()})


def _header(stream: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """Return the header and the file offset of the data, after checking that every tensor lies inside the file."""
    size = path.stat().st_size
    raw = stream.read(8)
    length = struct.unpack("<Q", raw)[0] if len(raw) == 8 else 0
    if len(raw) < 8 or length > min(size - 8, _MAX_HEADER):
        raise CorruptFileError(
            "the header is cut off", where=str(path), expected="a safetensors file", hint="fetch the file again"
        )
    try:
        header = json.loads(stream.read(length).decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CorruptFileError(f"the header is not JSON: {error}", where=str(path)) from error
    if not isinstance(header, dict):
        raise CorruptFileError("the header is not a JSON object", where=str(path))
    for name, entry in header.items():
        if name != "__metadata__":
            _check_entry(name, entry, size - 8 - length, str(path))
    return header, 8 + length


_PACKED_VERSION = "1.0"  # of docs/formats.md


def _transposed(metadata: object, where: str) -> set[str]:
    """Return the packed modules whose dense weight is [in, out]: their stored form is always [out, in]."""
    text = metadata.get("sparsecore") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        return set()
    document = parse_json(text.encode(), f"{where}: the metadata entry 'sparsecore'")
    if not isinstance(document, dict):
        raise CorruptFileError("the metadata entry 'sparsecore' is no object", where=where)
    check_version(document.get("version"), _PACKED_VERSION, where)
    modules = document.get("modules")
    if not isinstance(modules, dict):
        return set()
    return {name for name, entry in modules.items() if isinstance(entry, dict) and entry.get("transposed") is True}


_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}
_BITS |= {"I64": 64, "U64": 64, "F64": 64}


def _check_entry(name: str, entry: object, data: int, where: str) -> None:
    keys = ("dtype", "shape", "data_offsets")
    if not isinstance(entry, dict) or not all(key in entry for key in keys):
        raise CorruptFileError(f"the header entry of {name!r} is damaged", where=where)
    dtype, shape, offsets = (entry[key] for key in keys)
    numbers = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 and isinstance(dtype, str)
    if not numbers or not all(type(value) is int and value >= 0 for value in (*shape, *offsets)):
        raise CorruptFileError(f"the header entry of {name!r} is damaged", where=where)
    if offsets[1] > data:
        raise CorruptFileError(
            f"the file is truncated: {name!r} ends {offsets[1] - data} bytes behind its end",
            where=where,
            hint="fetch the file again",
        )
    width = _BITS.get(dtype)
    if width is not None and offsets[1] - offsets[0] != prod(shape) * width // 8:
        raise CorruptFileError(f"{name!r} has {offsets[1] - offsets[0]} bytes for the shape {shape}", where=where)


def _weights(header: Mapping[str, Any], stream: BinaryIO, start: int, transposed: set[str], where: str) -> Weights:
    """Put the stored sparse forms (docs/formats.md) back to one weight each."""
    tensors: dict[str, Tensor] = {}
    patterns: dict[str, Pattern] = {}
    packed = {
        name.rpartition(".")[0]: name.rpartition(".")[2]
        for name in header
        if name.endswith((".compressed", ".blocks")) and f"{name.rpartition('.')[0]}.shape" in header
    }
    for name, entry in header.items():
        prefix, _, part = name.rpartition(".")
        if prefix in packed and part in _STORED:
            continue
        tensors[name] = Tensor(tuple(entry["shape"]), entry["dtype"].lower())
    for prefix, main in packed.items():
        pair = _pair(header, stream, start, f"{prefix}.shape", where)
        stored = header[f"{prefix}.{main}"]
        name = f"{prefix.removesuffix('.weight')}.weight"  # compressed-tensors has used both
        tensors[name] = Tensor(pair[::-1] if prefix in transposed else pair, stored["dtype"].lower())
        density = min(1.0, prod(stored["shape"]) / max(prod(pair), 1))
        patterns[name] = Pattern(_pattern_name(header, stream, start, prefix, where), density)
    return Weights(tensors, patterns)


_STORED = {
    "shape",
    "compressed",
    "bitmask",
    "codes",
    "nm",
    "row_offsets",
    "blocks",
    "block",
    "block_cols",
    "block_row_offsets",
}


def _pattern_name(header: Mapping[str, Any], stream: BinaryIO, start: int, prefix: str, where: str) -> str:
    if f"{prefix}.blocks" in header:
        rows, columns = _pair(header, stream, start, f"{prefix}.block", where)
        return f"block {rows}x{columns}"
    if len(header[f"{prefix}.compressed"]["shape"]) == 1:
        return "unstructured"
    if f"{prefix}.nm" not in header:
        return "2:4"
    return "{}:{}".format(*_pair(header, stream, start, f"{prefix}.nm", where))


def _pair(header: Mapping[str, Any], stream: BinaryIO, start: int, name: str, where: str) -> tuple[int, int]:
    """Return the two int64 of a small tensor: the only data that is read."""
    entry = header.get(name)
    if entry is None or entry["dtype"] != "I64" or entry["shape"] not in ([2], [2, 1]):
        raise CorruptFileError(f"{name!r} is missing or not int64[2]", where=where)
    stream.seek(start + entry["data_offsets"][0])
    first, second = struct.unpack("<qq", stream.read(16))
    if first < 1 or second < 1:
        raise CorruptFileError(f"{name!r} is {[first, second]}", where=where, expected="two positive numbers")
    return first, second
