"""Attention of one layer over a cascade cache: the prompt's pass, passes of several tokens, and single tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsecore.cascade.kv_store import decode_attention
from sparsecore.ops import scored_attention

if TYPE_CHECKING:
    from sparsecore.cascade.generation.cache import CascadeCache

__all__ = ["decode", "extend", "prefill"]


def prefill(cache: CascadeCache, index: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attend over the prompt and store it, left-aligned and without padding; nothing is pruned inside a layer.

    Parameters
    ----------
    q, k, v: [B, H or Hkv, n, D], one row a slot of `cache.prompt`.
    """
    prompt, tokens, heads = cache.prompt, cache.tokens, q.shape[1]
    mask = None if prompt.valid is None else prompt.valid[:, None, None, :]
    scored = scored_attention(q, k, v, mask, prompt.valid, causal=True, scale=scale)
    scores = scored.token_scores
    places = torch.arange(prompt.width, device=q.device)
    if prompt.order is not None:
        inside = places < prompt.counts[:, None]
        scores = (scores.sum(1).gather(1, prompt.order) * inside)[:, None, :]
    tokens.add(prompt.ids, prompt.counts, scores, (prompt.counts[:, None] - places) * heads)
    tokens.head_scores += scored.head_scores
    cache.steps.add_prompt(prompt.ids, prompt.counts)
    cache.layers[index].fill(k, v, cache.own_ids(), prompt.order, prompt.counts)
    return scored.out


def extend(cache: CascadeCache, index: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attend with several tokens at once over all rows that are stored and over each other; nothing is pruned."""
    layer, tokens = cache.layers[index], cache.tokens
    assert layer.store is not None
    (batch, heads, fresh, _), width = q.shape, layer.width
    before = tokens.seen - fresh
    steps = torch.arange(fresh, device=q.device)
    stored = torch.arange(width, device=q.device) < layer.counts[:, None]
    among = (steps <= steps[:, None]).expand(batch, 1, -1, -1)
    mask = torch.cat([stored[:, None, None, :].expand(-1, -1, fresh, -1), among], dim=-1)
    keys = torch.cat([layer.store.k()[:, :, :width].to(k.dtype), k], dim=2)
    values = torch.cat([layer.store.v()[:, :, :width].to(v.dtype), v], dim=2)
    scored = scored_attention(q, keys, values, mask, scale=scale)
    old = None if layer.ids is None else layer.ids[:, :width]
    tokens.add(old, layer.counts, scored.token_scores[..., :width], fresh * heads)
    new = before[:, None] + steps
    tokens.add(new, torch.full_like(before, fresh), scored.token_scores[..., width:], (fresh - steps) * heads)
    tokens.head_scores += scored.head_scores
    layer.append(k, v, before)
    return scored.out


def decode(cache: CascadeCache, index: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attend with one token over the rows that this step and layer choose.

    Parameters
    ----------
    q: [B, H, 1, D]. k, v: [B, Hkv, 1, D].
    """
    layer, tokens, settings = cache.layers[index], cache.tokens, cache.settings
    assert layer.store is not None
    if layer.frozen:
        layer.append_frozen(k, v)
    else:
        layer.append(k, v, tokens.seen - 1)
    rows, counts = cache.choice.rows(index, layer)
    heads = cache.choice.heads(index)
    result = decode_attention(
        layer.store,
        q,
        rows=rows,
        row_counts=counts,
        heads=heads,
        scale=scale,
        threshold=settings.schedule.lsb_threshold,
        value_keep=settings.schedule.value_ratio(index),
        value_mass=settings.value_mass,
        group_values=settings.group_values,
    )
    ids = rows if layer.ids is None else layer.tokens(rows)
    counts = layer.counts if counts is None else counts
    tokens.add(ids, counts, result.token_scores, cache.choice.head_counts[index])
    tokens.head_scores += result.head_scores
    if not layer.frozen:
        cache.steps.add(ids, counts, heads, result.low, result.values_used)
    return result.out
