"""Arrays of other libraries as tensors, and tensors as theirs."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from sparsecore.arrays import cuda_interface, dlpack
from sparsecore.backends.cuda import device as cuda_device
from sparsecore.errors import UnsupportedError

__all__ = ["as_tensor", "device_of", "is_array", "like"]


def is_array(value: Any) -> bool:
    """Whether `as_tensor` may take it."""
    return hasattr(value, "__dlpack__") or hasattr(value, "__cuda_array_interface__")


def as_tensor(array: Any, name: str = "array") -> Tensor:
    """Return the array as a tensor on its own memory, ready on torch's current stream of its device.

    DLPack comes first, because it knows the device and bf16; `__cuda_array_interface__` (version 2 and later) is for
    what has nothing else. The memory lives as long as the tensor.

    Raises UnsupportedError for other objects, devices and masked arrays, DtypeError for element types that torch has
    not, SpanError for strides that are negative or no multiple of the element and for misaligned memory.
    """
    if isinstance(array, Tensor):
        return array
    if hasattr(array, "__dlpack__"):
        return dlpack.import_tensor(array, name)
    if hasattr(array, "__cuda_array_interface__"):
        return cuda_interface.import_tensor(array, name)
    raise _no_array(array, name)


def device_of(array: Any, name: str = "array") -> torch.device:
    """Device of an array, as `as_tensor` will have it; raises UnsupportedError as that does."""
    if isinstance(array, Tensor):
        return array.device
    if hasattr(array, "__dlpack__"):
        return dlpack.device_of(array)
    if hasattr(array, "__cuda_array_interface__"):
        return cuda_interface.device()
    raise _no_array(array, name)


def like(array: Any, result: Tensor) -> Any:
    """Return `result` as an array of the library that `array` is of, on the same memory; a tensor where that cannot be.

    The library is asked by its `from_dlpack`, as the array API standard has it; Numba by `numba.cuda.as_cuda_array`.
    Raises UnsupportedError where it does not take the memory, as torch gives none to the default stream of each thread.
    """
    if isinstance(array, Tensor):
        return result
    library = sys.modules.get(type(array).__module__.partition(".")[0])
    if library is not None and library.__name__ == "numba":
        importer = library.cuda.as_cuda_array
    else:
        namespace = array.__array_namespace__() if hasattr(array, "__array_namespace__") else library
        importer = getattr(namespace, "from_dlpack", None)
    if importer is None:
        return result
    try:
        with cuda_device.current(result):  # torch shares what is on the current device, and what needs no gradient
            return importer(result.detach())
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"the library of a {type(array).__name__} does not take the result: {error}",
            where="result",
            expected="one that DLPack can describe, on a stream that torch knows",
            hint="pass a tensor for the first array, or make another stream current in its library",
        ) from error


def _no_array(array: Any, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"a {type(array).__name__} is no array that can be shared",
        where=name,
        expected="an object with __dlpack__ or __cuda_array_interface__",
        hint="cupy.asarray, numpy.asarray or torch.as_tensor makes one",
    )
