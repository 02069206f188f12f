"""Attention on bit planes in pure torch, after SpAtten's progressive quantisation (HPCA 2021, section III-D).

Queries and keys are quantised linearly and symmetrically, one scale a token: scale = max|x| / (2^(bits - 1) - 1), an
all-zero token has scale 1, values are rounded half to even, bits = msb_bits + lsb_bits. The first pass sees the high
msb_bits of each key (arithmetic shift right by lsb_bits) with the middle of the missing range, 2^(lsb_bits - 1), in
place of the low bits. A query whose largest probability stays below `threshold` is computed once more with whole keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bitplane_attention", "bitplane_attention_gradients"]


def bitplane_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, msb_bits: int, lsb_bits: int, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention with keys read in two steps.

    q [B, H, Lq, D], k [B, H, Lk, D], v [B, H, Lk, Dv]; mask bool, broadcast to [B, 1, Lq, Lk], True = attend.
    Returns out [B, H, Lq, Dv] in q's dtype, the sum of every key's probabilities over the queries [B, H, Lk] in fp32,
    and which queries needed the low bits, bool [B, H, Lq]. A query that may attend to nothing gives zeros.
    """
    query, high, whole = _operands(q, k, msb_bits, lsb_bits)
    probabilities = _softmax(query, high, mask, scale)
    largest = probabilities.amax(-1) if k.shape[2] else probabilities.sum(-1)
    needs_lsb = largest < threshold
    if lsb_bits == 0 or k.shape[2] == 0:
        needs_lsb = torch.zeros_like(needs_lsb)
    elif mask is not None:
        needs_lsb = needs_lsb & mask.any(-1)
    probabilities = torch.where(needs_lsb.unsqueeze(-1), _softmax(query, whole, mask, scale), probabilities)
    return (probabilities @ v.float()).to(q.dtype), probabilities.sum(2), needs_lsb


def bitplane_attention_gradients(
    grad_out: Tensor,
    grad_sums: Tensor | None,
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
    query, high, whole = _operands(q, k, msb_bits, lsb_bits)
    low = needs_lsb.unsqueeze(-1)
    probabilities = torch.where(low, _softmax(query, whole, mask, scale), _softmax(query, high, mask, scale))
    grad = grad_out.float()
    towards = grad @ v.float().transpose(-1, -2)
    if grad_sums is not None:
        towards = towards + grad_sums.unsqueeze(2)
    scores = probabilities * (towards - (towards * probabilities).sum(-1, keepdim=True)) * scale
    seen = torch.where(low, scores, 0)
    grad_q = (scores - seen) @ high.float() + seen @ whole.float()
    grad_k = scores.transpose(-1, -2) @ query.float()
    grad_v = probabilities.transpose(-1, -2) @ grad
    return grad_q.to(q.dtype), grad_k.to(k.dtype), grad_v.to(v.dtype)


def _operands(q: Tensor, k: Tensor, msb_bits: int, lsb_bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys from the high bits and whole keys, back in real units, in float64: integer products stay exact."""
    bits = msb_bits + lsb_bits
    query, query_scale = _quantise(q, bits)
    key, key_scale = _quantise(k, bits)
    high = key.int() >> lsb_bits << lsb_bits
    if lsb_bits:
        high = high + (1 << (lsb_bits - 1))
    return query * query_scale, high.double() * key_scale, key * key_scale


def _quantise(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    x = x.float()
    largest = x.abs().amax(-1, keepdim=True) if x.shape[-1] else x.new_zeros(*x.shape[:-1], 1)
    scale = torch.where(largest == 0, 1.0, largest / ((1 << (bits - 1)) - 1))
    return torch.round(x / scale).double(), scale.double()


def _softmax(query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Probabilities in fp32 [B, H, Lq, Lk]; rows that may attend to nothing are zeros."""
    scores = query @ key.transpose(-1, -2) * scale
    if mask is None:
        return torch.softmax(scores, -1).float()
    probabilities = torch.softmax(scores.masked_fill(~mask, -torch.inf), -1).float()
    return torch.where(mask, probabilities, 0)
