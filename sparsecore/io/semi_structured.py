"""Semi-structured tensors of torch in a file; `sparsecore.semi_structured` has their layout.

A cuSPARSELt blob in a file cannot be read: its layout is private to the library and to its version.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsecore.dtypes import DTYPES
from sparsecore.errors import CorruptFileError, UnsupportedError
from sparsecore.io.checkpoint import PackedEntry
from sparsecore.io.tensors import LazyTensor, held
from sparsecore.semi_structured import cutlass_mask, expanded, not_plain, stored_cutlass

__all__ = ["STAND_INS", "Cusparselt", "Cutlass", "parts", "read_semi_structured"]


class _StandIn(Tensor):
    """Takes the place of torch's class while a file is read: it holds what the file says and computes nothing."""

    __slots__ = ("compressed_swizzled_bitmask", "meta", "meta_t", "packed", "packed_t")
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise UnsupportedError(f"{cls.__name__} only holds a tensor of a file")


class Cutlass(_StandIn):
    """A SparseSemiStructuredTensorCUTLASS of a file."""


class Cusparselt(_StandIn):
    """A SparseSemiStructuredTensorCUSPARSELT of a file."""


_MODULE = "torch.sparse.semi_structured"
STAND_INS = [
    (Cutlass, f"{_MODULE}.SparseSemiStructuredTensorCUTLASS"),
    (Cusparselt, f"{_MODULE}.SparseSemiStructuredTensorCUSPARSELT"),
]
"""For torch.serialization.safe_globals: the names in the file, and what is made instead."""


def parts(tensor: _StandIn) -> tuple[Tensor, ...]:
    """The ordinary tensors inside; raises CorruptFileError where they are something else."""
    found = (getattr(tensor, name, None) for name in _StandIn.__slots__)
    inner = tuple(value for value in found if value is not None)
    if not all(type(value) is Tensor and value.layout == torch.strided for value in inner):
        raise CorruptFileError("a semi-structured tensor holds something else than tensors")
    return inner


def read_semi_structured(tensor: _StandIn, where: str) -> PackedEntry | LazyTensor:
    """Return the weight packed, 2:4 (1:2 of fp32), bit for bit; one of int8 as the dense tensor.

    Raises UnsupportedError for a cuSPARSELt blob and for the transposed or training form, CorruptFileError where the
    tensors do not form a weight.
    """
    if isinstance(tensor, Cusparselt):
        raise UnsupportedError(
            "a cuSPARSELt blob, whose layout is private to the library and its version",
            where=where,
            expected="the CUTLASS layout, or dense weights with zeros",
            hint="on the machine that made it, save .to_dense(), or sparsify the model and save that",
        )
    packed, meta = getattr(tensor, "packed", None), getattr(tensor, "meta", None)
    if packed is None or meta is None or len(parts(tensor)) > 2:
        raise not_plain(where)
    if packed.dtype not in DTYPES:
        return held(expanded(packed.detach(), cutlass_mask(tuple(tensor.shape), packed, meta, where)))
    return PackedEntry(stored_cutlass(tuple(tensor.shape), packed.detach(), meta.detach(), where))
