"""Attention of one new token over a store of keys and values, and the two operators that change such a store.

A store is a list of tensors for the keys and one for the values, all [B, Hkv, C, ...] with room for C slots:

    keys    [k]                          k [B, Hkv, C, D] fp32, bf16 or fp16, where msb_bits is 0
            [high, low, scale]           bit planes (see `backends.reference.bitplane`), msb_bits 4, 6 or 8
            [high, rest, low, scale]     msb_bits 10 or 12
    values  [v]                          v [B, Hkv, C, Dv] fp32, bf16 or fp16
            [v, scale]                   v int8, scale fp32 [B, Hkv, C]

`sparsecore.cascade.KVStore` owns one; these operators are what it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparsecore.backends.cpu import decode_attention as cpu
from sparsecore.backends.reference import decode_attention as reference
from sparsecore.backends.reference.bitplane import KEY_BITS
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError
from sparsecore.ops.direct import runs_directly
from sparsecore.ops.library import define

__all__ = ["Decoded", "decode_attention", "decode_operator", "kv_append_", "kv_compact_", "merge_attention"]

_Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class Decoded(NamedTuple):
    """What `decode_attention` returns.

    Parameters
    ----------
    out: [B, Hq, 1, Dv] in the dtype of q. lse: fp32 [B, Hq, 1], natural logarithm of the sum of exp(score), -inf where
        nothing was seen.
    token_scores: int64 [B, Hq, n], n = R of selected rows, else width; [B, Hq, 0] if not wanted.
    head_scores: int64 [B, Hq]; [B, 0] if not wanted.
    low: bool [B, Hq], queries that read the low bits. values_used: int32 [B, Hq], V rows that were multiplied.
    """

    out: Tensor
    lse: Tensor
    token_scores: Tensor
    head_scores: Tensor
    low: Tensor
    values_used: Tensor


def _check_store(keys: Sequence[Tensor], values: Sequence[Tensor], msb_bits: int) -> tuple[int, int, int]:
    """Return batch, key heads and capacity of a store whose tensors fit together."""
    if msb_bits not in (0, *KEY_BITS):
        raise InvalidValueError(f"msb_bits is {msb_bits}", where="msb_bits", expected=f"0 (dense) or one of {KEY_BITS}")
    parts = 1 if not msb_bits else 4 if msb_bits > 8 else 3
    if len(keys) != parts or len(values) not in (1, 2):
        raise ShapeError(
            f"{len(keys)} tensors of keys and {len(values)} of values",
            where="keys, values",
            expected=f"{parts} for {msb_bits} high bits, and 1 or 2 (int8 with a scale)",
        )
    if keys[0].dim() != 4:
        raise ShapeError(f"keys are {list(keys[0].shape)}", where="keys", expected="[B, Hkv, C, D]")
    shape = tuple(keys[0].shape[:3])
    for place, part in enumerate((*keys, *values)):
        scale = place in (parts - 1 if msb_bits else -1, parts + 1)
        if part.dim() != (3 if scale else 4) or tuple(part.shape[:3]) != shape:
            raise ShapeError(
                f"a tensor of the store is {list(part.shape)}",
                where="keys, values",
                expected=f"{[*shape]}{'' if scale else ' and a width'}",
            )
        allowed = (torch.float32,) if scale else _dtypes(place, parts, msb_bits, len(values))
        if part.dtype not in allowed:
            raise DtypeError(
                f"a tensor of the store is {part.dtype}",
                where=f"tensor {place} of keys and values",
                expected=" or ".join(str(dtype) for dtype in allowed),
            )
    return keys[0].shape[0], keys[0].shape[1], keys[0].shape[2]


_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _dtypes(place: int, parts: int, msb_bits: int, value_parts: int) -> tuple[torch.dtype, ...]:
    if place < parts:
        return (torch.uint8,) if msb_bits else _FLOATS
    return (torch.int8,) if value_parts == 2 else _FLOATS


def _check(
    q: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    starts: Tensor,
    lengths: Tensor,
    width: int,
    rows: Tensor | None,
    row_counts: Tensor | None,
    heads: Tensor | None,
    msb_bits: int,
    scale: float,
    threshold: float,
    value_keep: float,
    value_mass: float,
) -> None:
    batch, heads_kv, capacity = _check_store(keys, values, msb_bits)
    if q.dim() != 4 or q.shape[0] != batch or q.shape[2] != 1 or heads_kv == 0 or q.shape[1] % heads_kv:
        raise ShapeError(
            f"q is {list(q.shape)}", where="q", expected=f"[{batch}, a multiple of {heads_kv} heads, 1, D]"
        )
    dim = q.shape[3]
    for plane, have in enumerate(part.shape[3] for part in keys[: len(keys) - 1 if msb_bits else 1]):
        packed = msb_bits == 4 or (msb_bits and plane > 0)
        if have != (-(-dim // 2) if packed else dim):
            raise ShapeError(
                f"q has head size {dim}, a tensor of the keys is {have} wide", where="keys", expected="one size"
            )
    if not q.dtype.is_floating_point or (not msb_bits and q.dtype != keys[0].dtype):
        expected = "floating point" if msb_bits else f"that of the keys, {keys[0].dtype}"
        raise DtypeError(f"q is {q.dtype}", where="q", expected=expected)
    for name, tensor, dtype, shape in (
        ("starts", starts, torch.int64, [batch]),
        ("lengths", lengths, torch.int64, [batch]),
        ("rows", rows, torch.int64, [batch, rows.shape[-1] if rows is not None and rows.dim() else 0]),
        ("row_counts", row_counts, torch.int64, [batch]),
        ("heads", heads, torch.bool, [batch, q.shape[1]]),
    ):
        if tensor is not None and tensor.dtype != dtype:
            raise DtypeError(f"{name} is {tensor.dtype}", where=name, expected=str(dtype))
        if tensor is not None and list(tensor.shape) != shape:
            raise ShapeError(f"{name} is {list(tensor.shape)}", where=name, expected=str(shape))
    if rows is None and row_counts is not None:
        raise InvalidValueError("row_counts without rows", where="row_counts", expected="both or none")
    if not 0 <= width <= capacity:
        raise InvalidValueError(f"width is {width}", where="width", expected=f"0 ... {capacity}, the capacity")
    for name, number in (("scale", scale), ("threshold", threshold), ("value_mass", value_mass)):
        if not math.isfinite(number):
            raise InvalidValueError(f"{name} is {number}", where=name, expected="a finite number")
    if not 0 < value_keep <= 1:
        raise InvalidValueError(f"value_keep is {value_keep}", where="value_keep", expected="0 < value_keep <= 1")


def _decode(kernel: Callable[..., _Outputs]) -> Callable[..., _Outputs]:
    def checked(*arguments: Any) -> _Outputs:
        _check(*arguments[:14])
        return kernel(*arguments)

    return checked


def _decode_shapes(q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], *arguments: Any) -> _Outputs:
    rows, width, (token_scores, head_scores) = arguments[3], arguments[2], arguments[-2:]
    batch, heads = q.shape[:2]
    seen = (width if rows is None else rows.shape[1]) if token_scores else 0
    return (
        q.new_empty((batch, heads, 1, values[0].shape[3])),
        q.new_empty((batch, heads, 1), dtype=torch.float32),
        q.new_empty((batch, heads, seen), dtype=torch.int64),
        q.new_empty((batch, heads if head_scores else 0), dtype=torch.int64),
        q.new_empty((batch, heads), dtype=torch.bool),
        q.new_empty((batch, heads), dtype=torch.int32),
    )


decode_operator = define(
    "decode_attention(Tensor q, Tensor[] keys, Tensor[] values, Tensor starts, Tensor lengths, SymInt width, "
    "Tensor? rows, Tensor? row_counts, Tensor? heads, int msb_bits, float scale, float threshold, float value_keep, "
    "float value_mass, bool group_values, bool token_scores, bool head_scores) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    fake=_decode(_decode_shapes),
    CPU=cpu.decode_attention,
    CompositeExplicitAutograd=_decode(reference.decode_attention),
)


def decode_attention(
    q: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    starts: Tensor,
    lengths: Tensor,
    width: int,
    *,
    rows: Tensor | None = None,
    row_counts: Tensor | None = None,
    heads: Tensor | None = None,
    msb_bits: int = 0,
    scale: float | None = None,
    threshold: float = 0.1,
    value_keep: float = 1.0,
    value_mass: float = 0.0,
    group_values: bool = False,
    token_scores: bool = True,
    head_scores: bool = True,
) -> Decoded:
    """Return softmax(scale q k^T) v of one new token for each sequence, reading no more of the store than it needs.

    Where the keys are bit planes (SpAtten, HPCA 2021, section III-D), q is quantised to 15 bits, symmetric, one scale a
    head; a score is the exact integer product, in fp32, times (q scale x scale) times the key's scale. The first pass
    sees the high bits with 8, the middle of what is missing, in place of the low ones; a head whose largest probability
    is below `threshold` adds the low bits once. Other than `scored_attention` it has no gradient.

    Parameters
    ----------
    q: [B, Hq, 1, D], Hq a multiple of Hkv; query head h reads key head h // (Hq // Hkv). In the dtype of dense keys.
    keys, values: the store (see the module). starts, lengths: int64 [B]: sequence b lies in slots starts[b] ...
        starts[b] + lengths[b] - 1 of the first `width`; padding may be on either side.
    rows: int64 [B, R], the slots that each sequence reads: the first row_counts[b] (None: all R), ascending, of its
        own. The others of `rows` are not looked at. None: it reads all it has.
    heads: bool [B, Hq], False: pruned, out is 0 and lse -inf. K and V of a group are skipped if all its heads are
    pruned.
    scale: factor of the scores; None: D ** -0.5.
    threshold: see above; negative: never the low bits, above 1: always. Dense keys have none.
    value_keep: each query multiplies only the max(1, floor(value_keep * seen keys)) V rows of largest probability,
        equal ones to the lower slot, and does not renormalise (section III-C).
    value_mass: a query whose chosen rows hold less probability than this multiplies all: flat heads lose most. 0: off.
    group_values: the queries of a group multiply the same rows, those whose probabilities have the largest sum over the
        group, so that a group reads no more rows than one query does; all rows if `value_mass` fails one of them.
    token_scores, head_scores: whether to return them, in the units of `scored_attention`; probabilities count after the
        low bits were added and before any value is dropped.

    A slot that is not seen contributes nothing, whatever it holds; a sequence that sees none has out 0 and lse -inf.

    Raises
    ------
    ShapeError, DtypeError, InvalidValueError: arguments that do not fit together. IndexTableError: slots outside of a
    sequence or not ascending.
    """
    factor = (q.shape[-1] ** -0.5 if q.dim() and q.shape[-1] else 0.0) if scale is None else scale
    arguments = (
        q, list(keys), list(values), starts, lengths, width, rows, row_counts, heads, msb_bits, factor, threshold,
        value_keep, value_mass, group_values, token_scores, head_scores,
    )  # fmt: skip
    if runs_directly(q) and keys[0].is_cpu and starts.is_cpu:
        return Decoded(*cpu.decode_attention(*arguments))
    return Decoded(*decode_operator(*arguments))


def _check_append(
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    new_keys: Tensor,
    new_values: Tensor,
    positions: Tensor,
    msb_bits: int,
    value_bits: int,
) -> None:
    batch, heads, capacity = _check_store(keys, values, msb_bits)
    wide = [batch, heads, new_keys.shape[2] if new_keys.dim() == 4 else -1]
    dims = (new_keys.shape[-1] if new_keys.dim() else 0, values[0].shape[3])
    for name, new, dim in (("new_keys", new_keys, dims[0]), ("new_values", new_values, dims[1])):
        if list(new.shape) != [*wide, dim]:
            raise ShapeError(f"{name} is {list(new.shape)}", where=name, expected=f"[{batch}, {heads}, tokens, {dim}]")
        if not new.dtype.is_floating_point:
            raise DtypeError(f"{name} is {new.dtype}", where=name, expected="floating point")
    for plane, have in enumerate(part.shape[3] for part in keys[: len(keys) - 1 if msb_bits else 1]):
        packed = msb_bits == 4 or (msb_bits and plane > 0)
        if have != (-(-dims[0] // 2) if packed else dims[0]):
            raise ShapeError(
                f"new_keys has head size {dims[0]}, the store another", where="new_keys", expected="that of the store"
            )
    if positions.dtype != torch.int64 or list(positions.shape) != [batch]:
        raise ShapeError(
            f"positions is {positions.dtype} {list(positions.shape)}", where="positions", expected=f"int64 [{batch}]"
        )
    if (value_bits != 0) != (len(values) == 2) or not (value_bits == 0 or 4 <= value_bits <= 8):
        raise InvalidValueError(
            f"value_bits is {value_bits} with {len(values)} tensors of values",
            where="value_bits",
            expected="4 ... 8 with a scale, 0 without",
        )
    if new_keys.shape[2] > capacity:
        raise InvalidValueError(f"{new_keys.shape[2]} tokens", where="new_keys", expected=f"at most {capacity}")


def _append(kernel: Callable[..., None]) -> Callable[..., None]:
    def checked(*arguments: Any) -> None:
        _check_append(*arguments)
        kernel(*arguments)

    return checked


def _nothing(*_: Any) -> None:
    """Nothing to compute for fake tensors: these operators only write."""


_APPEND_CPU = _append(cpu.kv_append_)
_kv_append = define(
    "kv_append_(Tensor(a!)[] keys, Tensor(b!)[] values, Tensor new_keys, Tensor new_values, Tensor positions, "
    "int msb_bits, int value_bits) -> ()",
    fake=_append(_nothing),
    CPU=_APPEND_CPU,
    CompositeExplicitAutograd=_append(reference.kv_append_),
)


def kv_append_(
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    new_keys: Tensor,
    new_values: Tensor,
    positions: Tensor,
    *,
    msb_bits: int = 0,
    value_bits: int = 0,
) -> None:
    """Quantise new tokens as the store holds them and write them to slots positions[b], positions[b] + 1, ... of it.

    Parameters
    ----------
    keys, values: the store (see the module), written in place. new_keys: [B, Hkv, t, D], new_values: [B, Hkv, t, Dv],
        any float dtype; dense stores convert. positions: int64 [B]. msb_bits, value_bits: widths of the store, 0:
        dense.

    Raises
    ------
    ShapeError, DtypeError, InvalidValueError; IndexTableError where a slot is outside of the store.
    """
    arguments = (list(keys), list(values), new_keys, new_values, positions, msb_bits, value_bits)
    if runs_directly(new_keys) and keys[0].is_cpu:
        _APPEND_CPU(*arguments)
    else:
        _kv_append(*arguments)


def _check_compact(stored: Sequence[Tensor], index: Tensor, counts: Tensor) -> None:
    if not stored or any(part.dim() not in (3, 4) or part.shape[:3] != stored[0].shape[:3] for part in stored):
        raise ShapeError("tensors of the store differ", where="stored", expected="[B, Hkv, C] or [B, Hkv, C, width]")
    batch, capacity = stored[0].shape[0], stored[0].shape[2]
    for name, tensor, shape in (("index", index, [batch, index.shape[-1]]), ("counts", counts, [batch])):
        if tensor.dtype != torch.int64 or list(tensor.shape) != shape:
            raise ShapeError(f"{name} is {tensor.dtype} {list(tensor.shape)}", where=name, expected=f"int64 {shape}")
    if index.shape[1] > capacity:
        raise ShapeError(f"index is {list(index.shape)}", where="index", expected=f"at most {capacity} rows")


def _compact(kernel: Callable[..., None]) -> Callable[..., None]:
    def checked(*arguments: Any) -> None:
        _check_compact(*arguments)
        kernel(*arguments)

    return checked


_COMPACT_CPU = _compact(cpu.kv_compact_)
_kv_compact = define(
    "kv_compact_(Tensor(a!)[] stored, Tensor index, Tensor counts) -> ()",
    fake=_compact(_nothing),
    CPU=_COMPACT_CPU,
    CompositeExplicitAutograd=_compact(reference.kv_compact_),
)


def kv_compact_(stored: Sequence[Tensor], index: Tensor, counts: Tensor) -> None:
    """Move the rows index[b, : counts[b]] of every head to slots 0, 1, ...; what was there is lost.

    Parameters
    ----------
    stored: tensors [B, Hkv, C] or [B, Hkv, C, width] of any dtype. index: int64 [B, m], ascending slots; entries from
        counts[b] on are not looked at. counts: int64 [B].

    Raises
    ------
    ShapeError; IndexTableError where the rows are not ascending slots of the store.
    """
    if runs_directly(index) and stored[0].is_cpu:
        _COMPACT_CPU(list(stored), index, counts)
    else:
        _kv_compact(list(stored), index, counts)


def merge_attention(out: Tensor, lse: Tensor, other_out: Tensor, other_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Merge attention over two disjoint sets of keys into attention over both, as (out, lse).

    Parameters
    ----------
    out, other_out: [..., Dv]. lse, other_lse: fp32 [...], natural logarithms of the sums of exp(score); -inf for a part
        that saw nothing. Values must not have been pruned for the result to be exact.

    Raises ShapeError where the parts differ in shape.
    """
    if out.shape != other_out.shape or lse.shape != other_lse.shape or out.shape[:-1] != lse.shape:
        raise ShapeError(
            f"parts are {[*out.shape]}, {[*lse.shape]} and {[*other_out.shape]}, {[*other_lse.shape]}",
            expected="[..., Dv] with [...], twice the same",
        )
    total = torch.logaddexp(lse, other_lse)
    nothing = total == -torch.inf
    weights = [torch.where(nothing, 0, torch.exp(part - total)).unsqueeze(-1) for part in (lse, other_lse)]
    merged = out.float() * weights[0] + other_out.float() * weights[1]
    return merged.to(out.dtype), total
