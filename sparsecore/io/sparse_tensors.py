"""Sparse tensors of torch in a state dict: CSR, CSC, BSR, BSC and COO, checked in full before they are expanded.

torch itself takes the indices of a file on trust (its invariant checks are off by default), so nothing of its sparse
code sees them here: only the index and value tensors are used.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsecore.dtypes import DTYPES
from sparsecore.errors import CorruptFileError
from sparsecore.formats import find_pattern, pack
from sparsecore.io.checkpoint import PackedEntry
from sparsecore.io.expansion import check_expansion
from sparsecore.io.tensors import LazyTensor
from sparsecore.patterns import Block, Unstructured

__all__ = ["SPARSE", "parts", "read_sparse"]

SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
_BY_ROWS = (torch.sparse_csr, torch.sparse_bsr)


def parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The strided tensors that a sparse one consists of; the values come last."""
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in _BY_ROWS:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return tensor.ccol_indices(), tensor.row_indices(), tensor.values()


def read_sparse(tensor: Tensor, where: str) -> PackedEntry | LazyTensor:
    """Return a matrix of fp32, fp16 or bf16 packed, in its blocks where it has some; any other tensor to be expanded.

    Raises CorruptFileError for indices that are out of range, unsorted or of the wrong count, and for a shape that the
    values do not justify.
    """
    held = sum(part.numel() * part.element_size() for part in parts(tensor))
    check_expansion(tuple(tensor.shape), tensor.dtype.itemsize, held, where)
    if tensor.layout == torch.sparse_coo:
        _check_coo(tensor, where)
    else:
        _check_compressed(tensor, where)
    if tensor.dim() != 2 or tensor.dtype not in DTYPES:
        return LazyTensor(tuple(tensor.shape), tensor.dtype, lambda: _expand(tensor), object())
    dense = _expand(tensor)
    if tensor.layout == torch.sparse_bsr:
        return PackedEntry(pack(dense, Block(*tensor.values().shape[1:])))
    return PackedEntry(pack(dense, find_pattern(dense) or Unstructured()))


def _check_coo(tensor: Tensor, where: str) -> None:
    indices, values = parts(tensor)
    dims = tensor.sparse_dim()
    shape = torch.tensor(tensor.shape[:dims])
    fits = indices.shape == (dims, len(values)) and values.shape[1:] == tensor.shape[dims:]
    if not fits or bool(((indices < 0) | (indices >= shape[:, None])).any()):
        raise _corrupt("its indices do not fit its shape", where)


def _check_compressed(tensor: Tensor, where: str) -> None:
    """Check pointers and indices of one compressed matrix: what is compressed are its rows, or block rows."""
    pointers, indices, values = parts(tensor)
    if tensor.dim() != 2 or values.dim() not in (1, 3) or pointers.dim() != 1 or indices.dim() != 1:
        raise _corrupt("it is a batch or has dense dimensions", where)
    block = values.shape[1:] if values.dim() == 3 else torch.Size((1, 1))
    if math.prod(block) == 0 or any(size % side for size, side in zip(tensor.shape, block, strict=True)):
        raise _corrupt(f"its blocks {list(block)} do not divide its shape", where)
    lines, width = (size // side for size, side in zip(tensor.shape, block, strict=True))
    if tensor.layout not in _BY_ROWS:
        lines, width = width, lines
    counts = pointers.diff()
    if (
        len(pointers) != lines + 1
        or len(indices) != len(values)
        or int(pointers[0]) != 0
        or int(pointers[-1]) != len(values)
        or bool((counts < 0).any())
    ):
        raise _corrupt("its pointers do not count its values", where)
    line = torch.repeat_interleave(torch.arange(lines), counts)
    ascending = (indices.diff() > 0) | (line.diff() > 0)
    if bool(((indices < 0) | (indices >= width)).any()) or not bool(ascending.all()):
        raise _corrupt("its indices are out of range or unsorted", where)


def _expand(tensor: Tensor) -> Tensor:
    """The dense tensor, from checked indices."""
    if tensor.layout == torch.sparse_coo:
        indices, values = parts(tensor)
        dense = torch.zeros(tensor.shape, dtype=tensor.dtype)
        return dense.index_put_(tuple(indices.long()), values.detach(), accumulate=True)
    pointers, indices, values = (part.detach() for part in parts(tensor))
    blocks = values if values.dim() == 3 else values[:, None, None]
    high, wide = blocks.shape[1:]
    line = torch.repeat_interleave(torch.arange(len(pointers) - 1), pointers.diff())
    row, col = (line, indices.long()) if tensor.layout in _BY_ROWS else (indices.long(), line)
    dense = torch.zeros(tensor.shape[0] // high, high, tensor.shape[1] // wide, wide, dtype=tensor.dtype)
    dense[row, :, col, :] = blocks
    return dense.reshape(tensor.shape)


def _corrupt(problem: str, where: str) -> CorruptFileError:
    return CorruptFileError(f"a sparse tensor is damaged: {problem}", where=where)
