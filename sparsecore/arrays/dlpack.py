"""DLPack capsules as tensors, looked into before torch takes them: it trusts what they say of strides and memory.

The structures are those of dlpack.h 1.0 (https://github.com/dmlc/dlpack): DLTensor, DLManagedTensor, and from version 1
on DLManagedTensorVersioned.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from sparsecore.errors import DtypeError, SpanError, UnsupportedError

__all__ = ["device_of", "import_tensor"]

_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13
_BFLOAT, _BOOL = 4, 6
_CODES = {0: "int", 1: "uint", 2: "float", 3: "handle", _BFLOAT: "bfloat", 5: "complex", _BOOL: "bool"}
_TYPES = {(0, 8), (0, 16), (0, 32), (0, 64), (1, 8), (2, 16), (2, 32), (2, 64), (_BFLOAT, 16), (_BOOL, 8)}
_MOST_DIMS = 64


class _Device(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Array(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("array", _Array),
    )


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)


def device_of(array: Any) -> torch.device:
    """The device that an array names. Raises UnsupportedError for one that is neither the CPU nor CUDA."""
    kind, index = (int(value) for value in array.__dlpack_device__())
    if kind in (_CPU, _CUDA_HOST):
        return torch.device("cpu")
    if kind in (_CUDA, _CUDA_MANAGED):
        return torch.device("cuda", index)
    raise UnsupportedError(
        f"an array on another device: DLPack type {kind}",
        expected="the CPU or CUDA",
        hint="copy it to one of them first",
    )


def import_tensor(array: Any, name: str) -> Tensor:
    """Return the array as a tensor, ready on torch's current stream; raises as `exchange.as_tensor` does."""
    capsule = _capsule(array, device_of(array), name)
    _check(_look(capsule, name), name)
    return torch.utils.dlpack.from_dlpack(capsule)


def _capsule(array: Any, device: torch.device, name: str) -> Any:
    asked: dict[str, Any] = {"max_version": (1, 0)}
    if device.type == "cuda":
        handle = torch.cuda.current_stream(device).cuda_stream
        asked["stream"] = handle or 1  # 0 is ambiguous: DLPack calls the legacy default stream 1
    try:
        try:
            return array.__dlpack__(**asked)
        except TypeError:  # of before version 1
            del asked["max_version"]
            return array.__dlpack__(**asked)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"its library does not share the array: {error}",
            where=name,
            expected="an array that DLPack can describe",
            hint="a copy of it may be: .copy(), for one that is read-only too",
        ) from error


def _look(capsule: Any, name: str) -> _Array:
    if _is_valid(capsule, b"dltensor_versioned"):
        versioned = _Versioned.from_address(_pointer(capsule, b"dltensor_versioned"))
        if versioned.major != 1:
            raise UnsupportedError(f"DLPack of version {versioned.major}", where=name, expected="version 1 or before")
        found: _Array = versioned.array
        return found
    if not _is_valid(capsule, b"dltensor"):
        raise UnsupportedError(
            f"__dlpack__ gave a {type(capsule).__name__}", where=name, expected="a capsule that nobody has taken yet"
        )
    return _Array.from_address(_pointer(capsule, b"dltensor"))


def _check(array: _Array, name: str) -> None:
    code, bits, lanes = array.dtype.code, array.dtype.bits, array.dtype.lanes
    if (code, bits) not in _TYPES or lanes != 1:
        raise DtypeError(
            f"elements of {_CODES.get(code, f'code {code}')}{bits}" + f" x {lanes}" * (lanes != 1),
            where=name,
            expected="float16, bfloat16, float32 or float64, int8 to int64, uint8 or bool",
        )
    if not 0 <= array.ndim <= _MOST_DIMS:
        raise SpanError(f"{array.ndim} dimensions", where=name, expected=f"0 to {_MOST_DIMS}")
    shape = array.shape[: array.ndim]
    strides = array.strides[: array.ndim] if array.strides else None
    if any(size < 0 for size in shape):
        raise SpanError(f"a negative size: {shape}", where=name)
    if strides is not None and any(stride < 0 for stride in strides):
        raise SpanError(
            f"negative strides: {strides}", where=name, expected="strides of 0 or more", hint="copy the array first"
        )
    address = (array.data or 0) + array.byte_offset
    if math.prod(shape) and address % (bits // 8):
        raise SpanError("misaligned memory", where=name, expected=f"a multiple of {bits // 8} bytes")
    if math.prod(shape) and not array.data:
        raise SpanError("no memory", where=name, expected=f"the elements of {shape}")
