"""safetensors files: headers checked in full when opened, tensors read one by one; writing goes through the library."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from simulator.files import replacing
from sparsecore.errors import CorruptFileError, UnsupportedError
from sparsecore.io.file_bytes import FileBytes
from sparsecore.io.json_text import strict_json
from sparsecore.io.opened import Opened
from sparsecore.io.tensors import LazyTensor, LazyTensors

__all__ = ["read_safetensors", "write_safetensors"]

_LONGEST_HEADER = 100_000_000  # the limit of the safetensors library
_MOST_ELEMENTS = 2**63 - 1
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "BOOL": torch.bool,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "C64": torch.complex64,
}  # fmt: skip
_HINT = "it is truncated or damaged; copy or download it again"


def read_safetensors(path: Path) -> Opened:
    """Return tensors and metadata of a safetensors file; a tensor is read when it is asked for.

    Checked before anything is allocated: header size, names that come twice, offsets (no overlap, no gap, nothing past
    the end), and that type, shape and length of each tensor agree.

    Raises CorruptFileError for anything that is not such a file, UnsupportedError for elements narrower than a byte.
    """
    file = FileBytes(path)
    if file.size < 8:
        raise _corrupt(path, f"it has {file.size} bytes")
    (length,) = struct.unpack("<Q", bytes(file.read(0, 8).numpy()))
    if length > min(_LONGEST_HEADER, file.size - 8):
        raise _corrupt(path, f"its header claims {length} bytes")
    header = strict_json(bytes(file.read(8, length).numpy()), path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _corrupt(path, "its metadata is not text")
    entries, ends = {}, []
    for name, fields in header.items():
        entry, span = _entry(file, 8 + length, name, fields)
        entries[name] = entry
        ends.append(span)
    _check_spans(sorted(ends), file.size - 8 - length, path)
    return Opened("safetensors", LazyTensors(entries), metadata=metadata)


def _entry(file: FileBytes, start: int, name: str, fields: Any) -> tuple[LazyTensor, tuple[int, int]]:
    """Return the tensor and its span (first, last + 1) in the data that begins at `start`."""
    fields = fields if isinstance(fields, dict) else {}
    shape, offsets = fields.get("shape"), fields.get("data_offsets")
    if not (_sizes(shape) and _sizes(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]):
        raise _corrupt(file.path, f"the entry of {name!r} is malformed")
    kind, (first, last) = fields.get("dtype"), offsets
    dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None and isinstance(kind, str) and kind[:2] in ("F4", "F6"):
        raise UnsupportedError(f"elements of {kind}, narrower than a byte", where=f"{file.path}: {name}")
    elements = math.prod(shape)
    if dtype is None or elements > _MOST_ELEMENTS or elements * dtype.itemsize != last - first:
        raise _corrupt(file.path, f"{name!r}: {kind} {shape} does not take {last - first} bytes")

    def read() -> Tensor:
        return file.read(start + first, last - first).view(dtype).reshape(shape)

    place: tuple[object, ...] = (file, first, kind, tuple(shape)) if last > first else (file, name)
    return LazyTensor(tuple(shape), dtype, read, place), (first, last)


def _sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(size) is int and size >= 0 for size in values)


def _check_spans(spans: list[tuple[int, int]], size: int, path: Path) -> None:
    end = 0
    for first, last in spans:
        if first != end:
            raise _corrupt(path, "its tensors overlap" if first < end else "there is a hole between its tensors")
        end = last
    if end != size:
        raise _corrupt(path, f"its tensors end at byte {end} of {size}")


def _corrupt(path: Path, problem: str) -> CorruptFileError:
    return CorruptFileError(f"not a readable safetensors file: {problem}", where=str(path), hint=_HINT)


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write `tensors` and `metadata` to `path` atomically; each tensor is dense, contiguous and owns its memory.

    Raises UnsupportedError for an element type that safetensors cannot hold, OSError where the disk refuses.
    """
    with replacing(path) as temporary:
        try:
            safetensors.torch.save_file(dict(tensors), str(temporary), metadata={"format": "pt", **metadata})
        except safetensors.SafetensorError as error:
            raise OSError(f"writing {path} failed: {error}") from error
        except (KeyError, ValueError) as error:
            raise UnsupportedError(f"safetensors cannot hold one of the tensors: {error}", where=str(path)) from error
