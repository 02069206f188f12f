"""Makes malformed checkpoint files. Each function writes one kind of damage; the tests say how it must be refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

Entry = dict[str, Any]


def entry(dtype: str, shape: list[int], start: int, end: int) -> Entry:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def container(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file with any header, any data, and any claimed header length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def arrays(path: Path, tensors: dict[str, np.ndarray], ours: dict[str, Any] | str | None = None) -> Path:
    """A well-formed safetensors file of `tensors`; `ours` becomes the metadata entry "sparsecore"."""
    names = {"float32": "F32", "float16": "F16", "uint8": "U8", "int64": "I64", "int32": "I32", "float64": "F64"}
    header: dict[str, Any] = {}
    if ours is not None:
        header["__metadata__"] = {"sparsecore": ours if isinstance(ours, str) else json.dumps(ours)}
    data = b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = entry(names[str(array.dtype)], list(array.shape), len(data), len(data) + len(raw))
        data += raw
    return container(path, header, data)


def two_four(rows: int = 4, cols: int = 8) -> dict[str, np.ndarray]:
    """The tensors of a correct 2:4 weight that keeps the first two of each group."""
    mask = np.tile(np.array([True, True, False, False]), (rows, cols // 4))
    return {
        "p.shape": np.array([[rows], [cols]], np.int64),
        "p.compressed": np.arange(1, rows * cols // 2 + 1, dtype=np.float32).reshape(rows, cols // 2),
        "p.bitmask": np.packbits(mask, axis=1, bitorder="little"),
    }


def codes(rows: int = 4, cols: int = 16) -> dict[str, np.ndarray]:
    """The tensors of a correct 1:8 weight that keeps position 5 of each group: 3 bits a code."""
    kept = cols // 8
    bits = np.tile(np.array([1, 0, 1], np.uint8), (rows, kept))
    return {
        "p.shape": np.array([rows, cols], np.int64),
        "p.nm": np.array([1, 8], np.int64),
        "p.compressed": np.ones((rows, kept), np.float32),
        "p.codes": np.packbits(bits, axis=1, bitorder="little"),
    }


def unstructured(rows: int = 4, cols: int = 8) -> dict[str, np.ndarray]:
    """The tensors of a correct unstructured weight that keeps column 3 of each row."""
    return {
        "p.shape": np.array([rows, cols], np.int64),
        "p.compressed": np.ones(rows, np.float32),
        "p.bitmask": np.full((rows, 1), 8, np.uint8),
        "p.row_offsets": np.arange(rows, dtype=np.int64),
    }


def blocks(rows: int = 8, cols: int = 8) -> dict[str, np.ndarray]:
    """The tensors of a correct weight of 4 x 4 blocks that keeps the diagonal."""
    return {
        "p.shape": np.array([rows, cols], np.int64),
        "p.block": np.array([4, 4], np.int64),
        "p.blocks": np.ones((2, 4, 4), np.float32),
        "p.block_cols": np.array([0, 1], np.int32),
        "p.block_row_offsets": np.array([0, 1, 2], np.int64),
    }
