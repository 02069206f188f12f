"""Attention of one layer on the kept tokens and heads, with the sums that the cascade decides by.

Token importance is the attention probability that a token receives, summed over queries, heads and layers; head
importance is the sum of |attention output|; local V pruning zeroes all but the largest probabilities of a query without
renormalising (SpAtten, arXiv 2012.09852, sections III-A to III-C).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsecore.cascade.schedule import Schedule
from sparsecore.ops import topk_select

__all__ = ["Attended", "Wanted", "attend", "rows_by"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sums a later layer still decides by; without them the fused attention of torch runs."""

    tokens: bool
    heads: bool


@dataclass(slots=True)
class Attended:
    """The attention of one layer: B sequences, h kept heads, n slots, head size D.

    Parameters
    ----------
    out: [B, h, n, D] in the dtype of V; rows of padding slots mean nothing.
    token_sums: [B, n] fp32, probabilities summed over a sequence's queries and heads; None if not wanted.
    head_sums: [B, h] fp32, sum of |out| over a sequence's queries; None if not wanted.
    value_rows: [B, h] int32, V rows that any query multiplied; None: all of the sequence's.
    low_queries: [B, h] int32, queries computed again with the low bits of K; None: attention was not quantised.
    """

    out: Tensor
    token_sums: Tensor | None = None
    head_sums: Tensor | None = None
    value_rows: Tensor | None = None
    low_queries: Tensor | None = None


def attend(
    q: Tensor, k: Tensor, v: Tensor, counts: Sequence[int], scale: float, schedule: Schedule, layer: int, wanted: Wanted
) -> Attended:
    """Attend over the first `counts[b]` slots of each sequence b.

    Parameters
    ----------
    q, k, v: [B, h, n, D]. scale: multiplies the scores.
    """
    valid = _valid(counts, q)
    if schedule.value_bits is not None:
        v = _rounded(v, schedule.value_bits)
    local = None if schedule.value_ratio(layer) == 1 else [schedule.value_count(count, layer) for count in counts]
    if schedule.msb_bits is not None:
        result = _quantised(q, k, v, counts, valid, scale, schedule, local)
    elif wanted.tokens or local:
        result = _eager(q, k, v, counts, valid, scale, local)
    else:
        mask = None if valid is None else valid[:, None, None, :]
        if mask is not None:
            mask = mask | ~mask.any(dim=-1, keepdim=True)  # an empty sequence must not become NaN
        result = Attended(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale))
    if wanted.heads:
        size = result.out.detach().float().abs().sum(-1)
        result.head_sums = (size if valid is None else size * valid[:, None, :]).sum(-1)
    return result


def rows_by(*keys: Sequence[int]) -> dict[tuple[int, ...], list[int]]:
    """Group the sequences of a batch: rows that have the same entry in every list are handled in one call."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(*keys, strict=True)):
        groups[key].append(row)
    return groups


def _valid(counts: Sequence[int], like: Tensor) -> Tensor | None:
    """Return which slots hold a token, bool [B, n], or None where all do."""
    width = like.shape[2]
    if all(count == width for count in counts):
        return None
    return torch.arange(width, device=like.device) < torch.tensor(counts, device=like.device)[:, None]


def _eager(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    counts: Sequence[int],
    valid: Tensor | None,
    scale: float,
    local: Sequence[int] | None,
) -> Attended:
    """Attention with the probabilities at hand, softmax and sums in fp32 at least."""
    scores = torch.matmul(q * scale, k.transpose(2, 3))
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if valid is not None:
        # The lowest number, not -inf: the rows of a sequence without tokens must stay finite.
        scores = scores.masked_fill(~valid[:, None, None, :], torch.finfo(scores.dtype).min)
    probabilities = torch.softmax(scores, dim=-1)
    sums = _token_sums(probabilities.detach(), valid)
    rows = None
    if local:
        probabilities, rows = _largest(probabilities, counts, local)
    return Attended(torch.matmul(probabilities.to(v.dtype), v), token_sums=sums, value_rows=rows)


def _token_sums(probabilities: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return probabilities.sum(dim=(1, 2))
    return torch.einsum("bhqk,bq->bk", probabilities, valid.to(probabilities.dtype))


def _largest(probabilities: Tensor, counts: Sequence[int], local: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Zero all but the `local[b]` largest probabilities of each query; count the keys that any query of a head kept."""
    kept = torch.zeros_like(probabilities)
    rows = torch.zeros(probabilities.shape[:2], dtype=torch.int32, device=probabilities.device)
    for (count, keep), group in rows_by(counts, local).items():
        if count == 0:
            continue
        own = probabilities[group, :, :count, :count]
        flat = own.reshape(-1, count)
        index = topk_select(flat.detach(), keep)[1]
        chosen = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, index, True).view_as(own)
        kept[group, :, :count, :count] = own * chosen
        rows[group] = chosen.any(dim=2).sum(dim=-1, dtype=torch.int32)
    return kept, rows


def _rounded(v: Tensor, bits: int) -> Tensor:
    """Round V [B, h, n, D] to `bits` bits, one symmetric scale a row; the gradient passes through unchanged."""
    wide = v.detach().float()
    largest = wide.abs().amax(-1, keepdim=True)
    scale = torch.where(largest == 0, 1.0, largest / ((1 << (bits - 1)) - 1))
    return v + ((wide / scale).round() * scale - wide).to(v.dtype)


def _quantised(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    counts: Sequence[int],
    valid: Tensor | None,
    scale: float,
    schedule: Schedule,
    local: Sequence[int] | None,
) -> Attended:
    """Attention on bit planes: queries whose largest probability is small are computed again with K's low bits."""
    assert schedule.msb_bits is not None
    mask = None if valid is None else valid[:, None, :, None] & valid[:, None, None, :]
    bits = (schedule.msb_bits, schedule.lsb_bits, schedule.lsb_threshold)
    if not local:
        out, sums, low = torch.ops.sparsecore.bitplane_attention(q, k, v, mask, scale, *bits)
        rows = None
    else:
        # Against the identity the operator returns the probabilities themselves.
        identity = torch.eye(k.shape[2], device=k.device).expand(*k.shape[:2], -1, -1)
        out, sums, low = torch.ops.sparsecore.bitplane_attention(q.float(), k.float(), identity, mask, scale, *bits)
        out, rows = _largest(out, counts, local)
        out = torch.matmul(out.to(v.dtype), v)
    if valid is not None:
        low = low & valid[:, None, :]
    used = low.sum(dim=-1, dtype=torch.int32)
    return Attended(out, token_sums=sums.detach().sum(dim=1), value_rows=rows, low_queries=used)
