"""Semi-structured tensors of torch (torch.sparse.to_sparse_semi_structured) in the layout of CUTLASS.

`packed` [rows, cols / 2] holds the kept values in order. `meta` has four bits a group: of four values (fp16, bf16,
int8) the positions of the first and of the second kept one, two bits each; of fp32, where the group is two values, the
same code for pairs of equal positions. The codes fill int16 (int32 for int8) from the low bits on, [rows, codes], and
the words are then reordered for the tensor cores: rows interleaved within 32 (16 for int32), 2 x 2 words swizzled,
columns in pairs, column-major. Source: `reorder_meta` and `ColumnMajorInterleaved<2>` of CUTLASS, as torch applies them
in torch/sparse/_semi_structured_conversions.py.

A cuSPARSELt blob cannot be read: its layout is private to the library and to its version.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsecore.errors import CorruptFileError, UnsupportedError
from sparsecore.formats import DTYPES, pack
from sparsecore.io.checkpoint import PackedEntry
from sparsecore.io.tensors import LazyTensor, held
from sparsecore.patterns import NM

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
    """Return the weight packed, 2:4 (1:2 of fp32); one of int8 as the dense tensor.

    Raises UnsupportedError for a cuSPARSELt blob and for the transposed or training form, CorruptFileError where the
    tensors do not form a weight.
    """
    if isinstance(tensor, Cusparselt):
        raise UnsupportedError(
            "a cuSPARSELt blob, whose layout is private to the library and its version",
            where=where,
            expected="the CUTLASS layout, or dense weights with zeros",
            hint="call .to_dense() on the machine that made it, and save that",
        )
    packed, meta = getattr(tensor, "packed", None), getattr(tensor, "meta", None)
    if packed is None or meta is None or len(parts(tensor)) > 2:
        raise UnsupportedError(
            "a transposed semi-structured tensor, or one for training", where=where, expected="packed and meta alone"
        )
    dense = _expand(tuple(tensor.shape), packed.detach(), meta.detach(), where)
    if dense.dtype not in DTYPES:
        return held(dense)
    return PackedEntry(pack(dense, NM(1, 2) if dense.dtype == torch.float32 else NM(2, 4)))


def _expand(shape: tuple[int, ...], packed: Tensor, meta: Tensor, where: str) -> Tensor:
    group = 2 if packed.dtype == torch.float32 else 4
    word = torch.int32 if packed.dtype == torch.int8 else torch.int16
    codes = word.itemsize * 2  # of four bits
    fits = len(shape) == 2 and packed.dtype in (*DTYPES, torch.int8) and meta.dtype == word
    if not fits or shape[0] % (32 if word == torch.int16 else 16) or shape[1] % (group * codes):
        raise _corrupt(f"{packed.dtype} {list(shape)} with {meta.dtype} is no such tensor", where)
    rows, cols = shape
    if packed.shape != (rows, cols // 2) or meta.shape != (rows, cols // (group * codes)):
        raise _corrupt(f"packed {list(packed.shape)}, meta {list(meta.shape)} for {list(shape)}", where)
    words = meta.flatten()[_places(*meta.shape, word)].view(rows, -1, 1)
    nibbles = (words.to(torch.int64) >> 4 * torch.arange(codes)) & 15
    first, second = nibbles.view(rows, -1) & 3, nibbles.view(rows, -1) >> 2
    kept = torch.zeros(rows, cols // group, group, dtype=torch.bool)
    if group == 2:
        if not bool((((first == 0) & (second == 1)) | ((first == 2) & (second == 3))).all()):
            raise _corrupt("its metadata has a code that is none", where)
        kept.scatter_(2, first[..., None] // 2, True)
    else:
        if not bool((first < second).all()):
            raise _corrupt("its metadata has a code that is none", where)
        kept.scatter_(2, torch.stack((first, second), -1), True)
    return torch.zeros(shape, dtype=packed.dtype).masked_scatter_(kept.view(shape), packed.contiguous())


def _places(rows: int, cols: int, word: torch.dtype) -> Tensor:
    """Where each word of the metadata, row by row, lies in the reordered tensor."""
    tile, step = (32, 4) if word == torch.int16 else (16, 2)
    row = torch.arange(rows)[:, None].expand(rows, cols)
    col = torch.arange(cols)[None, :].expand(rows, cols)
    row = row // tile * tile + row % 8 * step + row % tile // 8
    # The two words off the diagonal of each 2 x 2 change places.
    swap = (row % 2 == 0).long() * (col % 2 == 1) - (row % 2 == 1).long() * (col % 2 == 0)
    row, col = row + swap, col - swap
    return col // 2 * rows * 2 + row * 2 + col % 2


def _corrupt(problem: str, where: str) -> CorruptFileError:
    return CorruptFileError(f"a semi-structured tensor is damaged: {problem}", where=where)
