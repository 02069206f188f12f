"""Programs of torch.export (.pt2): their weights, from the archive's own JSON and raw bytes; no program is executed.

torch 2.9 and later write `data/weights/MODEL_weights_config.json`, which names type, sizes, strides and the entry with
the bytes of each parameter and persistent buffer, and `data/weights/weight_N`, the bytes. Before, the archive held a
state dict, `serialized_state_dict.pt`, which goes through the weights-only reader.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparsecore.errors import CorruptFileError, UnsupportedError
from sparsecore.io.archive import Entry
from sparsecore.io.file_bytes import FileBytes
from sparsecore.io.json_text import strict_json
from sparsecore.io.tensors import LazyTensor, LazyTensors

__all__ = ["is_exported", "read_exported", "state_dict_inside"]

_STATE_DICT = "serialized_state_dict.pt"
_CONFIG_END = "_weights_config.json"
_LONGEST_JSON = 2**28
_STRIDED = 7
# torch._export.serde.schema.ScalarType
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16, 28: torch.uint16,
    29: torch.float8_e4m3fn, 30: torch.float8_e5m2, 33: torch.float8_e8m0fnu, 34: torch.uint32, 35: torch.uint64,
}  # fmt: skip


def is_exported(names: Mapping[str, Entry]) -> bool:
    """Tell whether an archive with entries of these names is an exported program."""
    inner = {name.partition("/")[2] for name in names}
    return "serialized_exported_program.json" in names or any(
        name == "archive_format" or (name.startswith("models/") and name.endswith(".json")) for name in inner
    )


def state_dict_inside(file: FileBytes, entries: Mapping[str, Entry]) -> io.BytesIO | None:
    """The archive in the archive that older releases of torch kept the weights in, or None."""
    entry = entries.get(_STATE_DICT)
    return None if entry is None else io.BytesIO(file.read(entry.offset, entry.size).numpy().tobytes())


def read_exported(file: FileBytes, entries: Mapping[str, Entry]) -> LazyTensors:
    """Return the parameters and persistent buffers of the one program in an archive of torch 2.9 or later.

    Raises CorruptFileError where the JSON is damaged or claims more than its entries hold; UnsupportedError for an
    archive of several programs, of the other byte order, or with tensors that only a pickle describes.
    """
    configs = [name for name in entries if "/data/weights/" in name and name.endswith(_CONFIG_END)]
    if len(configs) != 1:
        raise UnsupportedError(
            f"an exported program with {len(configs)} sets of weights", where=str(file.path), expected="one"
        )
    root = configs[0].partition("/data/weights/")[0]
    order = entries.get(f"{root}/byteorder")
    if order is not None and _text(file, order).strip() != b"little":
        raise UnsupportedError("an exported program of another byte order", where=str(file.path), expected="little")
    config = strict_json(_text(file, entries[configs[0]]), file.path).get("config")
    if not isinstance(config, dict):
        raise _corrupt(file, f"{configs[0]} has no config")
    return LazyTensors(
        {name: _tensor(file, entries, f"{root}/data/weights/", name, found) for name, found in config.items()}
    )


def _text(file: FileBytes, entry: Entry) -> bytes:
    if entry.size > _LONGEST_JSON:
        raise _corrupt(file, f"a text of {entry.size} bytes")
    return file.read(entry.offset, entry.size).numpy().tobytes()


def _tensor(file: FileBytes, entries: Mapping[str, Entry], folder: str, name: str, found: Any) -> LazyTensor:
    meta = found.get("tensor_meta") if isinstance(found, dict) else None
    if not isinstance(meta, dict) or not isinstance(found.get("path_name"), str):
        raise _corrupt(file, f"the entry of {name!r} is malformed")
    dtype = _DTYPES.get(meta["dtype"]) if type(meta.get("dtype")) is int else None
    if found.get("use_pickle") or dtype is None or meta.get("layout") != _STRIDED:
        raise UnsupportedError(
            "a tensor that is stored as a pickle, or of an unknown type or layout",
            where=f"{file.path}: {name}",
            expected="dense tensors",
        )
    shape, strides = (_numbers(meta.get(key)) for key in ("sizes", "strides"))
    first = _numbers([meta.get("storage_offset")])
    entry = entries.get(folder + found["path_name"])
    if shape is None or strides is None or first is None or len(shape) != len(strides) or entry is None:
        raise _corrupt(file, f"the entry of {name!r} is malformed or leads to nothing")
    elements = math.prod(shape)
    last = first[0] + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # A stride of 0 would let a few bytes stand for any number of values.
    if elements and (elements * dtype.itemsize > entry.size or (last + 1) * dtype.itemsize > entry.size):
        raise _corrupt(file, f"{name!r} {list(shape)} is backed by {entry.size} bytes")

    def read() -> Tensor:
        if not elements:
            return torch.empty(shape, dtype=dtype)
        data = file.read(entry.offset, entry.size // dtype.itemsize * dtype.itemsize)
        values = data.view(dtype).as_strided(shape, strides, first[0])
        whole = values.is_contiguous() and data.numel() == elements * dtype.itemsize
        # A view of a larger storage must not keep all of it.
        return values if whole else values.clone(memory_format=torch.contiguous_format)

    place = (file, entry.offset, first[0], dtype, shape, strides) if elements else object()
    return LazyTensor(shape, dtype, read, place)


def _numbers(values: Any) -> tuple[int, ...] | None:
    """Sizes as the archive writes them, [{"as_int": 3}, ...]; None for anything else."""
    if not isinstance(values, list):
        return None
    found: list[Any] = [value.get("as_int") if isinstance(value, dict) else None for value in values]
    return tuple(found) if all(type(size) is int and 0 <= size < 2**62 for size in found) else None


def _corrupt(file: FileBytes, problem: str) -> CorruptFileError:
    return CorruptFileError(
        f"not a readable exported program: {problem}", where=str(file.path), hint="copy or download the file again"
    )
