"""Attention on bit planes in pure torch, after SpAtten's progressive quantisation (HPCA 2021, section III-D).

Queries and keys are quantised linearly and symmetrically, one scale a token: scale = max|x| / (2^(bits - 1) - 1), or 1
where that is 0, and integers x / scale in fp32, rounded half to even, with bits = msb_bits + lsb_bits. The first pass
sees the high msb_bits of each key (arithmetic shift right by lsb_bits) with the middle of the missing range,
2^(lsb_bits - 1), in place of the low bits. A query whose largest probability stays below `threshold` is computed once
more with whole keys. A token with an infinity or a NaN has scale NaN, and so have its scores.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sparsecore.backends.reference.bitplane import quantise_rows

__all__ = ["bitplane_attention", "bitplane_attention_gradients"]


class _Quantised(NamedTuple):
    """Integers [B, H, L, D] in fp32 and the scale of each token [B, H, L, 1]."""

    integers: Tensor
    scale: Tensor

    def values(self) -> Tensor:
        return self.integers * self.scale


def bitplane_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, msb_bits: int, lsb_bits: int, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention with keys read in two steps.

    q [B, H, Lq, D], k [B, H, Lk, D], v [B, H, Lk, Dv]; mask bool, broadcast to [B, 1, Lq, Lk], True = attend.
    Returns out [B, H, Lq, Dv] in q's dtype, the sum of every key's probabilities over the queries [B, H, Lk] in fp32,
    and which queries needed the low bits, bool [B, H, Lq]. A query that may attend to nothing gives zeros.
    """
    query, whole = _quantise(q, msb_bits + lsb_bits), _quantise(k, msb_bits + lsb_bits)
    probabilities = _probabilities(query, _high(whole, lsb_bits), mask, scale)
    needs_lsb = torch.zeros(q.shape[:3], dtype=torch.bool, device=q.device)
    if lsb_bits and k.shape[2]:
        needs_lsb = probabilities.amax(-1) < threshold
        if mask is not None:
            needs_lsb = needs_lsb & mask.any(-1)
        again = _probabilities(query, whole, mask, scale)
        probabilities = torch.where(needs_lsb.unsqueeze(-1), again, probabilities)
    return (probabilities @ v.float()).to(q.dtype), probabilities.sum(2), needs_lsb


def bitplane_attention_gradients(
    grad_out: Tensor,
    grad_sums: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    needs_lsb: Tensor,
    scale: float,
    msb_bits: int,
    lsb_bits: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to q, k, v with the quantisation taken as the identity (straight-through estimator)."""
    query, whole = _quantise(q, msb_bits + lsb_bits), _quantise(k, msb_bits + lsb_bits)
    high, low = _high(whole, lsb_bits), needs_lsb.unsqueeze(-1)
    probabilities = torch.where(
        low, _probabilities(query, whole, mask, scale), _probabilities(query, high, mask, scale)
    )
    grad = grad_out.float()
    towards = grad @ v.float().transpose(-1, -2) + grad_sums.unsqueeze(2)
    scores = probabilities * (towards - (towards * probabilities).sum(-1, keepdim=True)) * scale
    second = torch.where(low, scores, 0)
    grad_q = (scores - second) @ high.values() + second @ whole.values()
    grad_k = scores.transpose(-1, -2) @ query.values()
    grad_v = probabilities.transpose(-1, -2) @ grad
    return grad_q.to(q.dtype), grad_k.to(k.dtype), grad_v.to(v.dtype)


def _quantise(x: Tensor, bits: int) -> _Quantised:
    rows = quantise_rows(x, bits)
    return _Quantised(rows.integers.float(), rows.scale[..., None])


def _high(key: _Quantised, lsb_bits: int) -> _Quantised:
    """The key as the first pass sees it."""
    if lsb_bits == 0:
        return key
    integers = (key.integers.int() >> lsb_bits << lsb_bits) + (1 << (lsb_bits - 1))
    return _Quantised(integers.float(), key.scale)


def _probabilities(query: _Quantised, key: _Quantised, mask: Tensor | None, scale: float) -> Tensor:
    """Softmax of the scores in fp32 [B, H, Lq, Lk]; masked keys, and rows that may attend to nothing, are zeros."""
    # Integer products add up exactly in float64.
    products = (query.integers.double() @ key.integers.double().transpose(-1, -2)).float()
    scores = products * (query.scale * scale) * key.scale.transpose(-1, -2)
    if mask is None:
        return torch.softmax(scores, -1)
    return torch.where(mask, torch.softmax(scores.masked_fill(~mask, -torch.inf), -1), 0)
