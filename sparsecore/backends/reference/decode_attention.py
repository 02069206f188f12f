"""Attention of one new token over stored keys and values, in pure torch; the meaning is in `ops.decode_attention`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparsecore.backends.reference.bitplane import join_keys, quantise_rows, split_keys
from sparsecore.backends.reference.scores import head_scores as scores_of_heads
from sparsecore.backends.reference.scores import in_units, largest, value_counts
from sparsecore.errors import IndexTableError

__all__ = ["QUERY_BITS", "decode_attention", "key_parts", "kv_append_", "kv_compact_", "value_parts"]

QUERY_BITS = 15
"""Queries are quantised to this width where the keys are bit planes."""


class _Seen(NamedTuple):
    """Which slots each sequence reads: slots int64 [B, n], visible bool [B, n]."""

    slots: Tensor
    visible: Tensor

    def take(self, stored: Tensor) -> Tensor:
        """Rows [B, Hkv, n, ...] of stored [B, Hkv, C, ...]."""
        index = self.slots[:, None, :].expand(-1, stored.shape[1], -1)
        if stored.dim() == 4:
            return stored.gather(2, index[..., None].expand(-1, -1, -1, stored.shape[3]))
        return stored.gather(2, index)


def decode_attention(
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
    group_values: bool,
    token_scores: bool,
    head_scores: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See `ops.decode_attention`."""
    batch, heads_q = q.shape[:2]
    groups = (batch, keys[0].shape[1], -1)  # query heads of one key head are neighbours
    seen = _seen(starts, lengths, width, rows, row_counts)
    alive = torch.ones(batch, heads_q, dtype=torch.bool, device=q.device) if heads is None else heads
    visible = seen.visible[:, None, None, :] & alive.view(groups)[..., None]

    first = _scores(q, keys, seen, msb_bits, scale, low=False).masked_fill(~visible, -torch.inf)
    p, lse = _softmax(first, visible)
    low = torch.zeros_like(alive)
    if msb_bits:
        low = (p.amax(-1) < threshold) & visible.any(-1) if p.shape[-1] else torch.zeros_like(lse, dtype=torch.bool)
        again = _softmax(_scores(q, keys, seen, msb_bits, scale, low=True).masked_fill(~visible, -torch.inf), visible)
        p, lse = torch.where(low[..., None], again[0], p), torch.where(low, again[1], lse)
        low = low.view(batch, heads_q)

    kept = _kept(p, visible, value_keep, value_mass, group_values)
    v = seen.take(values[0]).float()
    if len(values) == 2:
        v = v * seen.take(values[1])[..., None]
    weighted = torch.where(kept, p, 0)
    # A row that is not multiplied contributes nothing, whatever it holds.
    out = weighted @ torch.where(v.isfinite(), v, 0)
    if not bool(v.isfinite().all()):
        special = torch.where(kept[..., None], weighted[..., None] * v[:, :, None], 0)
        out = torch.where(special.isfinite().all(-2), out, special.sum(-2))
    out = out.view(batch, heads_q, 1, -1).to(q.dtype)
    return (
        out,
        lse.view(batch, heads_q, 1),
        in_units(p).view(batch, heads_q, -1) if token_scores else q.new_empty((batch, heads_q, 0), dtype=torch.int64),
        scores_of_heads(out) if head_scores else q.new_empty((batch, 0), dtype=torch.int64),
        low,
        kept.sum(-1, dtype=torch.int32).view(batch, heads_q),
    )


def _seen(starts: Tensor, lengths: Tensor, width: int, rows: Tensor | None, row_counts: Tensor | None) -> _Seen:
    batch, ends = starts.shape[0], starts + lengths
    if bool(((starts < 0) | (lengths < 0) | (ends > width)).any()):
        raise IndexTableError("slots outside of the store", where="starts, lengths", expected=f"within 0 ... {width}")
    if rows is None:
        index = torch.arange(width, device=starts.device).expand(batch, -1)
        return _Seen(index, (index >= starts[:, None]) & (index < ends[:, None]))
    count = rows.shape[1]
    place = torch.arange(count, device=rows.device)
    counts = torch.full_like(starts, count) if row_counts is None else row_counts
    visible, index = place < counts[:, None], rows.long()
    outside = (index < starts[:, None]) | (index >= ends[:, None])
    descends = torch.zeros_like(visible)
    descends[:, 1:] = index[:, 1:] <= index[:, :-1]
    if bool(((outside | descends) & visible).any()) or bool(((counts < 0) | (counts > count)).any()):
        raise IndexTableError(
            "selected rows are not ascending slots of their sequence",
            where="rows",
            expected="start <= row < start + length, each larger than the one before, counts within rows",
        )
    return _Seen(torch.where(visible, index, 0), visible)


def _scores(q: Tensor, keys: Sequence[Tensor], seen: _Seen, msb_bits: int, scale: float, *, low: bool) -> Tensor:
    """Scores fp32 [B, Hkv, G, n]."""
    batch, _, _, width = q.shape
    groups = (batch, keys[0].shape[1], -1, width)
    if not msb_bits:
        return q.float().view(groups) @ seen.take(keys[0]).float().transpose(-1, -2) * scale
    query = quantise_rows(q.reshape(groups), QUERY_BITS)
    planes = tuple(seen.take(plane) for plane in keys[:-1])
    integers = join_keys(planes, msb_bits, width, low=low)
    # Integer products add up exactly in float64.
    products = (query.integers.double() @ integers.double().transpose(-1, -2)).float()
    return products * (query.scale * scale)[..., None] * seen.take(keys[-1])[:, :, None, :]


def _softmax(scores: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities, 0 where not visible, and the logarithm of their sum, -inf where nothing is."""
    if not scores.shape[-1]:
        return scores, scores.new_full(scores.shape[:-1], -torch.inf)
    p = torch.where(visible, torch.softmax(scores, -1), 0)
    return p, torch.where(visible.any(-1), torch.logsumexp(scores, -1), -torch.inf)


def _kept(p: Tensor, visible: Tensor, value_keep: float, value_mass: float, group_values: bool) -> Tensor:
    """Which V rows each query multiplies, bool [B, Hkv, G, n]."""
    if value_keep == 1 or not p.shape[-1]:
        return visible
    if group_values:
        rows = visible.any(2, keepdim=True)
        chosen = largest(p.sum(2, keepdim=True), rows, value_counts(value_keep, rows.sum(-1))) & visible
    else:
        chosen = largest(p, visible, value_counts(value_keep, visible.sum(-1)))
    mass = torch.where(chosen, p, 0).sum(-1)
    flat = (mass < value_mass) & visible.any(-1)
    if group_values:
        flat = flat.any(2, keepdim=True)
    return torch.where(flat[..., None], visible, chosen)


def kv_append_(
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    new_keys: Tensor,
    new_values: Tensor,
    positions: Tensor,
    msb_bits: int,
    value_bits: int,
) -> None:
    """See `ops.decode_attention.kv_append_`."""
    count, capacity = new_keys.shape[2], keys[0].shape[2]
    if bool(((positions < 0) | (positions > capacity - count)).any()):
        raise IndexTableError(
            "tokens do not fit into the store", where="positions", expected=f"0 ... {capacity - count}"
        )
    slots = positions[:, None] + torch.arange(count, device=positions.device)
    stored = list(zip(keys, key_parts(new_keys, msb_bits), strict=True))
    stored += zip(values, value_parts(new_values, value_bits), strict=True)
    for target, part in stored:
        index = slots[:, None, :].expand(part.shape[:3])
        target.scatter_(2, index[..., None].expand_as(part) if part.dim() == 4 else index, part.to(target.dtype))


def key_parts(x: Tensor, msb_bits: int) -> tuple[Tensor, ...]:
    """Keys [..., D] as a store holds them: planes and scale, or as they are."""
    if not msb_bits:
        return (x,)
    quantised = quantise_rows(x, msb_bits + 4)
    return (*split_keys(quantised.integers, msb_bits), quantised.scale)


def value_parts(x: Tensor, value_bits: int) -> tuple[Tensor, ...]:
    """Values [..., Dv] as a store holds them: int8 and scale, or as they are."""
    if not value_bits:
        return (x,)
    quantised = quantise_rows(x, value_bits)
    return quantised.integers.to(torch.int8), quantised.scale


def kv_compact_(stored: Sequence[Tensor], index: Tensor, counts: Tensor) -> None:
    """See `ops.decode_attention.kv_compact_`."""
    capacity, count = stored[0].shape[2], index.shape[1]
    visible = torch.arange(count, device=index.device) < counts[:, None]
    descends = torch.zeros_like(visible)
    descends[:, 1:] = index[:, 1:] <= index[:, :-1]
    wrong = ((index < 0) | (index >= capacity) | descends) & visible
    if bool(wrong.any()) or bool(((counts < 0) | (counts > count)).any()):
        raise IndexTableError(
            "rows to keep are not ascending slots", where="index", expected=f"ascending, 0 <= row < {capacity}"
        )
    rows = torch.where(visible, index, 0)[:, None, :]
    for part in stored:
        place = rows.expand(-1, part.shape[1], -1)
        kept = part.gather(2, place[..., None].expand(-1, -1, -1, part.shape[3]) if part.dim() == 4 else place)
        mask = visible[:, None, :, None] if part.dim() == 4 else visible[:, None, :]
        part[:, :, :count] = torch.where(mask, kept, part[:, :, :count])
