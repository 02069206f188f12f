"""Attention of one layer on the kept tokens and heads, with the scores that the cascade decides by.

Token importance is the attention probability that a token receives, summed over queries, heads and layers; head
importance is the sum of |attention output|; local V pruning drops all but the largest probabilities of a query without
renormalising (SpAtten, arXiv 2012.09852, sections III-A to III-C). All scores are integers in the units of
`sparsecore.ops.scored_attention`, so that neither order nor threads change a decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecore.backends.reference import scores as units
from sparsecore.cascade.schedule import Schedule
from sparsecore.ops import scored_attention

__all__ = ["Attended", "Wanted", "attend", "probabilities"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which scores a later layer still decides by; the others are not computed."""

    tokens: bool
    heads: bool


@dataclass(slots=True)
class Attended:
    """The attention of one layer: B sequences, h kept heads, n slots, head size D.

    Parameters
    ----------
    out: [B, h, n, D] in the dtype of V; rows of padding slots mean nothing.
    token_scores: int64 [B, h, n], probabilities summed over a sequence's queries; None if not wanted.
    head_scores: int64 [B, h], |out| summed over a sequence's queries; None if not wanted.
    value_rows: int32 [B, h], V rows that any query multiplied.
    low_queries: int32 [B, h], queries computed again with the low bits of K; None: attention was not quantised.
    """

    out: Tensor
    token_scores: Tensor | None
    head_scores: Tensor | None
    value_rows: Tensor
    low_queries: Tensor | None = None


def attend(
    q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scale: float, schedule: Schedule, layer: int, wanted: Wanted
) -> Attended:
    """Attend over the slots that hold a token.

    Parameters
    ----------
    q, k, v: [B, h, n, D]. valid: bool [B, n], slots that hold a token; None: all. scale: multiplies the scores.
    """
    if schedule.value_bits is not None:
        v = _rounded(v, schedule.value_bits)
    keep = schedule.value_ratio(layer)
    if schedule.msb_bits is not None:
        return _quantised(q, k, v, valid, scale, schedule, keep, wanted)
    mask = None if valid is None else valid[:, None, None, :]
    result = scored_attention(q, k, v, mask, valid, False, scale, keep, wanted.tokens, wanted.heads)
    return Attended(
        result.out,
        result.token_scores if wanted.tokens else None,
        result.head_scores if wanted.heads else None,
        result.values_used,
    )


def _rounded(v: Tensor, bits: int) -> Tensor:
    """Round V [B, h, n, D] to `bits` bits, one symmetric scale a row; the gradient passes through unchanged."""
    wide = v.detach().float()
    largest = wide.abs().amax(-1, keepdim=True)
    scale = torch.where(largest == 0, 1.0, largest / ((1 << (bits - 1)) - 1))
    return v + ((wide / scale).round() * scale - wide).to(v.dtype)


def _quantised(
    q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scale: float, schedule: Schedule, keep: float, wanted: Wanted
) -> Attended:
    """Attention on bit planes: queries whose largest probability is small are computed again with K's low bits."""
    assert schedule.msb_bits is not None
    seen = torch.ones_like(q[:, 0, :, 0], dtype=torch.bool) if valid is None else valid
    mask = seen[:, None, :, None] & seen[:, None, None, :]
    bits = (schedule.msb_bits, schedule.lsb_bits, schedule.lsb_threshold)
    if keep == 1:
        out, sums, low = torch.ops.sparsecore.bitplane_attention(q, k, v, mask, scale, *bits)
        rows = seen.sum(1, dtype=torch.int32)[:, None].expand(out.shape[:2])
    else:
        # Against the identity the operator returns the probabilities themselves.
        identity = torch.eye(k.shape[2], device=k.device).expand(*k.shape[:2], -1, -1)
        p, sums, low = torch.ops.sparsecore.bitplane_attention(q.float(), k.float(), identity, mask, scale, *bits)
        chosen = units.largest(p.detach(), mask.expand(p.shape), units.value_counts(keep, mask.sum(-1)))
        rows = chosen.any(2).sum(-1, dtype=torch.int32)
        out = torch.matmul(torch.where(chosen, p, 0).to(v.dtype), v)
    own = seen[:, None, :]
    return Attended(
        out,
        (sums.detach().double() * (1 << units.SCORE_BITS)).round().long() if wanted.tokens else None,
        units.head_scores(torch.where(own[..., None], out.detach(), 0)) if wanted.heads else None,
        rows,
        (low & own).sum(-1, dtype=torch.int32),
    )


def probabilities(q: Tensor, k: Tensor, valid: Tensor | None, scale: float) -> Tensor:
    """Return softmax(scale q k^T) as fp32 [B, h, n, n], zeros where the key holds no token; arguments as `attend`."""
    scores = torch.matmul(q.float() * scale, k.float().transpose(2, 3))
    if valid is None:
        return torch.softmax(scores, -1)
    seen = valid[:, None, None, :]
    # The lowest number, not -inf: the rows of a sequence without tokens must stay finite.
    return torch.softmax(scores.masked_fill(~seen, torch.finfo(scores.dtype).min), -1) * seen
