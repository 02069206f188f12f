"""Attention of one new token over a store of keys and values, and the two operators that change such a store.

A store is a list of tensors for the keys and one for the values, all [B, Hkv, C, ...] with room for C slots:

    keys    [k]                          k [B, Hkv, C, D] fp32, bf16 or fp16, where msb_bits is 0
            [high, low, scale]           bit planes (see `backends.reference.bitplane`), msb_bits 4, 6 or 8
            [high, rest, low, scale]     msb_bits 10 or 12
    values  [v]                          v [B, Hkv, C, Dv] fp32, bf16 or fp16
            [v, scale]                   v int8, scale fp32 [B, Hkv, C]

A paged store keeps the rows of all sequences in one pool of pages, its tensors [P, Hkv, page size, ...] with 16, 32,
64, 128 or 256 slots a page, and says by `pages`, int32 [B, T], where they are: slot s of sequence b is row
s % page size of page pages[b, s // page size]. Entries of which no slot is read may be anything.

Where indices (slots, rows, pages) are on the host, wrong ones are an IndexTableError. On a CUDA device they are not
looked at, as that would have to wait for the device: kernels clamp them, so that a wrong index gives a wrong result and
no access outside of the store, and a token whose slot or page does not exist is left out.

`sparsecore.cascade.KVStore` owns one; these operators are what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparsecore.backends.cpu import decode_attention as cpu
from sparsecore.backends.cuda import decode_attention as cuda
from sparsecore.backends.reference import decode_attention as reference
from sparsecore.backends.reference import paged
from sparsecore.errors import ShapeError
from sparsecore.ops.decode_checks import check_append, check_compact, check_decode
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


_RULE = 17  # the arguments of decode_attention before `pages`


def _decode(kernel: Callable[..., _Outputs]) -> Callable[..., _Outputs]:
    def checked(*arguments: Any) -> _Outputs:
        check_decode(*arguments[:14], *arguments[_RULE:])
        return kernel(*arguments)

    return checked


def _gathered(kernel: Callable[..., _Outputs]) -> Callable[..., _Outputs]:
    """Let a kernel without pages have its rows in one piece."""

    def decode(*arguments: Any) -> _Outputs:
        if len(arguments) == _RULE or arguments[_RULE] is None:
            return kernel(*arguments[:_RULE])
        check_decode(*arguments[:14], *arguments[_RULE:])
        q, keys, values, starts, lengths, *rest = arguments[:_RULE]
        pages = paged.in_use(arguments[_RULE], starts, lengths, keys[0])
        stores = [[paged.gather(part, pages) for part in parts] for parts in (keys, values)]
        return kernel(q, *stores, starts, lengths, *rest)

    return decode


def _decode_shapes(q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], *arguments: Any) -> _Outputs:
    rows, width, (token_scores, head_scores) = arguments[3], arguments[2], arguments[12:14]
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
    "float value_mass, bool group_values, bool token_scores, bool head_scores, Tensor? pages=None) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    fake=_decode(_decode_shapes),
    CPU=_gathered(cpu.decode_attention),
    CUDA=_decode(cuda.decode_attention),
    CompositeExplicitAutograd=_decode(_gathered(reference.decode_attention)),
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
    pages: Tensor | None = None,
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
    pages: int32 [B, T], the table of a paged store (see the module); width is at most T times the page size. Outside of
        CUDA devices the rows are copied together for the call.

    A slot that is not seen contributes nothing, whatever it holds; a sequence that sees none has out 0 and lse -inf.

    Raises
    ------
    ShapeError, DtypeError, InvalidValueError: arguments that do not fit together. IndexTableError: slots outside of a
    sequence or not ascending, pages outside of the pool.
    """
    factor = (q.shape[-1] ** -0.5 if q.dim() and q.shape[-1] else 0.0) if scale is None else scale
    arguments = (
        q, list(keys), list(values), starts, lengths, width, rows, row_counts, heads, msb_bits, factor, threshold,
        value_keep, value_mass, group_values, token_scores, head_scores,
    )  # fmt: skip
    if pages is None and runs_directly(q) and keys[0].is_cpu and starts.is_cpu:
        return Decoded(*cpu.decode_attention(*arguments))
    return Decoded(*decode_operator(*arguments, pages))


def _append(kernel: Callable[..., None]) -> Callable[..., None]:
    def checked(*arguments: Any) -> None:
        check_append(*arguments)
        kernel(*arguments)

    return checked


def _nothing(*_: Any) -> None:
    """Nothing to compute for fake tensors: these operators only write."""


def _in_pages(kernel: Callable[..., None]) -> Callable[..., None]:
    """Let a kernel without pages leave paged stores to torch."""

    def append(*arguments: Any) -> None:
        if len(arguments) == 7 or arguments[7] is None:
            return kernel(*arguments[:7])
        return paged.append_(*arguments)

    return append


_APPEND_CPU = _append(_in_pages(cpu.kv_append_))
_kv_append = define(
    "kv_append_(Tensor(a!)[] keys, Tensor(b!)[] values, Tensor new_keys, Tensor new_values, Tensor positions, "
    "int msb_bits, int value_bits, Tensor? pages=None) -> ()",
    fake=_append(_nothing),
    CPU=_APPEND_CPU,
    CUDA=_append(cuda.kv_append_),
    CompositeExplicitAutograd=_append(_in_pages(reference.kv_append_)),
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
    pages: Tensor | None = None,
) -> None:
    """Quantise new tokens as the store holds them and write them to slots positions[b], positions[b] + 1, ... of it.

    Parameters
    ----------
    keys, values: the store (see the module), written in place. new_keys: [B, Hkv, t, D], new_values: [B, Hkv, t, Dv],
        any float dtype; dense stores convert. positions: int64 [B]. msb_bits, value_bits: widths of the store, 0:
        dense. pages: int32 [B, T], the table of a paged store; what falls on an entry below 0,
        or behind the last one, is left out.

    Raises
    ------
    ShapeError, DtypeError, InvalidValueError; IndexTableError where a slot is outside of the store, or a page of the
    pool.
    """
    arguments = (list(keys), list(values), new_keys, new_values, positions, msb_bits, value_bits, pages)
    if runs_directly(new_keys) and keys[0].is_cpu:
        _APPEND_CPU(*arguments)
    else:
        _kv_append(*arguments)


def _compact(kernel: Callable[..., None]) -> Callable[..., None]:
    def checked(*arguments: Any) -> None:
        check_compact(*arguments)
        kernel(*arguments)

    return checked


_COMPACT_CPU = _compact(cpu.kv_compact_)
_kv_compact = define(
    "kv_compact_(Tensor(a!)[] stored, Tensor index, Tensor counts) -> ()",
    fake=_compact(_nothing),
    CPU=_COMPACT_CPU,
    CUDA=_compact(cuda.kv_compact_),
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
