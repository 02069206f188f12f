"""The one place that imports the compiled module `sparsecore._core`, and tensors in the form that it takes."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.errors import MissingDependencyError

__all__ = ["DTYPE_NAMES", "Span", "core", "runtime_isa", "span", "span_of_new"]

try:
    from sparsecore import _core as core
except ImportError as error:
    raise MissingDependencyError(
        f"the compiled module sparsecore._core cannot be imported: {error}",
        where="import sparsecore",
        expected="the extension built for this Python interpreter",
        hint='pip install "sparsecore-kernels[torch]", or in a source tree: pip install .',
    ) from error

Span = tuple[int, int, tuple[int, ...], tuple[int, ...], str]

DTYPE_NAMES = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int8: "i8",
    torch.float8_e4m3fn: "f8",
    torch.uint8: "u8",
    torch.bool: "u8",
    torch.int32: "i32",
    torch.int64: "i64",
}


def span(tensor: Tensor) -> Span:
    """Describe a tensor as (pointer, bytes, shape, strides in elements, dtype).

    The bytes are those left in its storage, so that the compiled module can check the shape against them. A span does
    not keep the tensor alive.
    """
    dtype = tensor.dtype
    left = tensor.untyped_storage().nbytes() - tensor.storage_offset() * dtype.itemsize
    # An offset is a SymInt only of tensors without memory; int() here would take a tenth of the time of it all.
    return tensor.data_ptr(), left, tensor.shape, tensor.stride(), DTYPE_NAMES[dtype]  # type: ignore[return-value]


def span_of_new(tensor: Tensor) -> Span:
    """`span` of a tensor that was just made: its storage holds it and need not be asked for, which takes longer."""
    return tensor.data_ptr(), tensor.nbytes, tensor.shape, tensor.stride(), DTYPE_NAMES[tensor.dtype]


def runtime_isa() -> str:
    """Name of the instruction set whose kernels run: "portable", "avx2", "avx512" or "amx"."""
    return core.runtime_isa()
