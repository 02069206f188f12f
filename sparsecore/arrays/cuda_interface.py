"""Objects with `__cuda_array_interface__` (versions 2 and 3) as tensors: what Numba's device arrays have.

The interface: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsecore.arrays.streams import external
from sparsecore.backends.cuda import device as cuda_device
from sparsecore.errors import DriverError, DtypeError, SpanError, UnsupportedError

__all__ = ["device", "import_tensor"]

_TYPES = {
    "<f2": torch.float16,
    "<f4": torch.float32,
    "<f8": torch.float64,
    "|i1": torch.int8,
    "<i2": torch.int16,
    "<i4": torch.int32,
    "<i8": torch.int64,
    "|u1": torch.uint8,
    "|b1": torch.bool,
}


@dataclass(frozen=True, slots=True)
class _Shared:
    """Checked fields of an interface, with the object that owns the memory. strides: in elements."""

    owner: Any
    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    typestr: str

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = tuple(stride * self.dtype.itemsize for stride in self.strides)
        # torch refuses what is read-only; nothing here writes.
        data = (self.pointer, False)
        return {"shape": self.shape, "strides": strides, "typestr": self.typestr, "data": data, "version": 2}

    @property
    def nbytes(self) -> int:
        """Bytes from the first element to behind the last."""
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.dtype.itemsize if math.prod(self.shape) else 0


def device() -> torch.device:
    """Where arrays with the interface are: it does not say, so the current device; the host under the emulator.

    Raises DriverError where torch has no CUDA device.
    """
    if cuda_device.emulated():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DriverError(
            "an array in the memory of a GPU that torch cannot use",
            where="__cuda_array_interface__",
            expected="torch with CUDA, and a driver",
            hint="python -c 'import torch; torch.cuda.init()' says what is missing",
        )
    return torch.device("cuda", torch.cuda.current_device())


def import_tensor(array: Any, name: str) -> Tensor:
    """Return the array as a tensor, ready on torch's current stream; raises as `exchange.as_tensor` does."""
    interface: Mapping[str, Any] = array.__cuda_array_interface__
    shared = _checked(array, interface, name)
    place = device()
    if place.type == "cpu":
        return _on_host(shared)
    if (producer := interface.get("stream")) is not None:
        torch.cuda.current_stream(place).wait_stream(external(producer, place, name))
    tensor = torch.as_tensor(shared, device=place)
    if shared.nbytes and tensor.data_ptr() != shared.pointer:
        raise UnsupportedError(
            f"the array is not on {place}",
            where=name,
            expected="memory of the current CUDA device",
            hint="enter torch.cuda.device(...) of its device, or copy it",
        )
    return tensor


def _checked(owner: Any, interface: Mapping[str, Any], name: str) -> _Shared:
    try:
        shape, typestr = tuple(int(size) for size in interface["shape"]), str(interface["typestr"])
        pointer = int(interface["data"][0] or 0)
        strides = interface.get("strides")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"a damaged __cuda_array_interface__: {type(error).__name__} {error}",
            where=name,
            expected="shape, typestr and data of version 2 or later",
        ) from error
    if any(size < 0 for size in shape):
        raise SpanError(f"a negative size: {list(shape)}", where=name, expected="a shape of sizes from 0 on")
    if interface.get("mask") is not None:
        raise UnsupportedError("a masked array", where=name, hint="fill the masked elements first")
    dtype = _TYPES.get(typestr)
    if dtype is None:
        raise DtypeError(
            f"elements of {typestr!r}",
            where=name,
            expected=", ".join(_TYPES),
            hint="the interface has no bfloat16: share such arrays by DLPack",
        )
    steps = _contiguous(shape) if strides is None else _in_elements(strides, shape, dtype.itemsize, name)
    if math.prod(shape) and (pointer % dtype.itemsize or not pointer):
        raise SpanError("misaligned or no memory", where=name, expected=f"a multiple of {dtype.itemsize} bytes")
    return _Shared(owner, pointer, shape, steps, dtype, typestr)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[place + 1 :]) for place in range(len(shape)))


def _in_elements(strides: Any, shape: tuple[int, ...], itemsize: int, name: str) -> tuple[int, ...]:
    found = tuple(int(stride) for stride in strides)
    if len(found) != len(shape):
        raise SpanError(f"strides {found} for shape {shape}", where=name, expected="one stride a dimension")
    if any(stride < 0 or stride % itemsize for stride in found):
        raise SpanError(
            f"strides of {found} bytes",
            where=name,
            expected=f"multiples of {itemsize} bytes, 0 or more",
            hint="copy the array first",
        )
    return tuple(stride // itemsize for stride in found)


def _on_host(shared: _Shared) -> Tensor:
    """The tensor where the emulator takes the GPU's place: the memory is the host's."""
    if not shared.nbytes:
        return torch.empty(shared.shape, dtype=shared.dtype)
    memory = (ctypes.c_uint8 * shared.nbytes).from_address(shared.pointer)
    memory.owner = shared.owner  # type: ignore[attr-defined]
    return torch.frombuffer(memory, dtype=shared.dtype).as_strided(shared.shape, shared.strides)
