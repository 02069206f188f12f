"""Semi-structured tensors of torch (torch.sparse.to_sparse_semi_structured) as stored weights.

The layout of CUTLASS is read on any device and bit for bit: the positions are those of its metadata, so that a kept
zero, or the -0.0 that its compressor keeps, stays kept. `packed` [rows, cols / 2] holds the kept values in order.
`meta` has four bits a group: of four values (fp16, bf16, int8) the positions of the first and of the second kept one,
two bits each; of fp32, where the group is two values, the same code for pairs of equal positions. The codes fill int16
(int32 for int8) from the low bits on, [rows, codes], and the words are then reordered for the tensor cores: rows
interleaved within 32 (16 for int32), 2 x 2 words swizzled, columns in pairs, column-major. Source: `reorder_meta` and
`ColumnMajorInterleaved<2>` of CUTLASS, as torch applies them in torch/sparse/_semi_structured_conversions.py.

The layout of cuSPARSELt is private to the library and its version: only the library reads it, on the GPU, by a product
with the identity.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor
from torch.sparse import (
    SparseSemiStructuredTensor,
    SparseSemiStructuredTensorCUSPARSELT,
    SparseSemiStructuredTensorCUTLASS,
)

from sparsecore.backends.reference import formats as reference
from sparsecore.dtypes import DTYPES
from sparsecore.errors import CorruptFileError, DtypeError, UnsupportedError
from sparsecore.formats import StoredWeight, pack
from sparsecore.patterns import NM, Pattern

__all__ = [
    "cutlass_mask",
    "expanded",
    "is_semi_structured",
    "natural_pattern",
    "not_plain",
    "stored_cutlass",
    "to_stored",
]


def is_semi_structured(tensor: object) -> TypeGuard[SparseSemiStructuredTensor]:
    """Whether `tensor` is one of torch's semi-structured tensors, of either library."""
    return isinstance(tensor, SparseSemiStructuredTensor)


def natural_pattern(dtype: torch.dtype) -> NM:
    """Pattern of semi-structured tensors: 2:4, of fp32 1:2."""
    return NM(1, 2) if dtype is torch.float32 else NM(2, 4)


def to_stored(tensor: SparseSemiStructuredTensor, pattern: Pattern | None = None, where: str = "") -> StoredWeight:
    """Return a tensor [rows, cols] as a stored weight on its own device.

    pattern: default `natural_pattern`. 2:4 keeps the positions of an fp32 tensor too: one of every two are two of every
    four. Any other pattern has to hold for the tensor, as for a dense weight.

    Raises UnsupportedError for a transposed tensor or one for training, and for a cuSPARSELt one that is not on a GPU
    or not finite; DtypeError for int8, which has no scale; CorruptFileError for metadata that is none; PatternError.
    """
    if isinstance(tensor, SparseSemiStructuredTensorCUSPARSELT):
        return pack(_multiplied_out(tensor, where), pattern or natural_pattern(tensor.dtype))
    packed, meta = tensor.packed, tensor.meta
    if packed is None or meta is None or not _is_plain(tensor):
        raise not_plain(where)
    if tensor.dtype not in DTYPES:
        raise DtypeError(
            f"a semi-structured tensor of {tensor.dtype}, which has no scale",
            where=where,
            expected="float32, float16 or bfloat16",
            hint="pack the float weight that it was made from with dtype=torch.int8",
        )
    return stored_cutlass(tuple(tensor.shape), packed.detach(), meta.detach(), where, pattern)


def stored_cutlass(
    shape: tuple[int, ...], packed: Tensor, meta: Tensor, where: str, pattern: Pattern | None = None
) -> StoredWeight:
    """`to_stored` for the two tensors of CUTLASS's layout, of a float type."""
    mask, own = cutlass_mask(shape, packed, meta, where), natural_pattern(packed.dtype)
    wanted = own if pattern is None else pattern
    if isinstance(wanted, NM) and wanted in (own, NM(2, 4)):
        parts = reference.parts_of(packed.flatten(), mask, wanted)
        return StoredWeight.assemble(wanted, (shape[0], shape[1]), parts)
    return pack(expanded(packed, mask), wanted)


def expanded(packed: Tensor, mask: Tensor) -> Tensor:
    """Dense matrix of the values `packed` at the positions `mask`, +0 elsewhere."""
    dense = torch.zeros(mask.shape, dtype=packed.dtype, device=packed.device)
    return dense.masked_scatter_(mask, packed.contiguous())


def cutlass_mask(shape: tuple[int, ...], packed: Tensor, meta: Tensor, where: str) -> Tensor:
    """Bool [rows, cols]: the kept positions. Raises CorruptFileError where sizes or metadata do not form a weight."""
    group = 2 if packed.dtype == torch.float32 else 4
    word = torch.int32 if packed.dtype == torch.int8 else torch.int16
    codes = word.itemsize * 2  # of four bits
    fits = len(shape) == 2 and packed.dtype in (*DTYPES, torch.int8) and meta.dtype == word
    if not fits or shape[0] % (32 if word == torch.int16 else 16) or shape[1] % (group * codes):
        raise _corrupt(f"{packed.dtype} {list(shape)} with {meta.dtype} is no such tensor", where)
    rows, cols = shape
    if packed.shape != (rows, cols // 2) or meta.shape != (rows, cols // (group * codes)):
        raise _corrupt(f"packed {list(packed.shape)}, meta {list(meta.shape)} for {list(shape)}", where)
    words = meta.flatten()[_places(*meta.shape, word).to(meta.device)].view(rows, -1, 1)
    nibbles = (words.to(torch.int64) >> 4 * torch.arange(codes, device=meta.device)) & 15
    first, second = nibbles.view(rows, -1) & 3, nibbles.view(rows, -1) >> 2
    kept = torch.zeros(rows, cols // group, group, dtype=torch.bool, device=meta.device)
    if group == 2:
        if not bool((((first == 0) & (second == 1)) | ((first == 2) & (second == 3))).all()):
            raise _corrupt("its metadata has a code that is none", where)
        kept.scatter_(2, first[..., None] // 2, True)
    else:
        if not bool((first < second).all()):
            raise _corrupt("its metadata has a code that is none", where)
        kept.scatter_(2, torch.stack((first, second), -1), True)
    return kept.view(rows, cols)


def not_plain(where: str) -> UnsupportedError:
    """The refusal of a tensor that holds another form than `packed` and `meta`, or more than these."""
    return UnsupportedError(
        "a transposed semi-structured tensor, or one for training",
        where=where,
        expected="packed and meta alone",
        hint="call .t() or .to_dense() on the GPU first",
    )


def _is_plain(tensor: SparseSemiStructuredTensor) -> bool:
    others = (tensor.packed_t, tensor.meta_t, tensor.compressed_swizzled_bitmask)
    return isinstance(tensor, SparseSemiStructuredTensorCUTLASS) and all(part is None for part in others)


def _multiplied_out(tensor: Tensor, where: str) -> Tensor:
    """The dense matrix of a cuSPARSELt tensor: its product with the identity, exact where every value is finite."""
    if not tensor.is_cuda:
        raise UnsupportedError(
            f"a cuSPARSELt tensor on {tensor.device}: its layout is private to the library, which runs on a GPU",
            where=where,
            expected="the layout of CUTLASS, or a tensor on a GPU",
            hint="call .to_dense() on the machine that made it, and pack that",
        )
    try:
        dense = tensor.to_dense()
    except (NotImplementedError, RuntimeError) as error:
        raise UnsupportedError(
            f"cuSPARSELt does not multiply this tensor: {str(error).partition(chr(10))[0]}",
            where=where,
            expected="float16 or bfloat16, not transposed",
            hint="pack the dense weight that it was made from",
        ) from error
    if not bool(dense.isfinite().all()):
        raise UnsupportedError(
            "a cuSPARSELt tensor that is not finite cannot be told from its product with the identity",
            where=where,
            expected="finite values",
            hint="pack the dense weight that it was made from",
        )
    return dense


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
