"""Attention of one new token over a long store of keys as bit planes, against the fastest back end of torch's SDPA."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from case import Bar, Case, Work
from errors import Bound
from peers import attention_backends
from place import Place
from torch import Tensor

from sparsecore.cascade import KVFormat, KVStore, decode_attention

__all__ = ["cases"]

_BF16 = torch.bfloat16
_FLAT = 0.06
"""Share of the heads that attend evenly: their low bits are read."""
_APPENDED = 2048
"""Tokens that are quantised at once, so that what that takes stays small."""


def cases() -> list[Case]:
    """32 query heads over 8, head size 128, 32768 tokens.

    Bounds are three times what the reference is off: 7.5e-3 in the norm, 1.9e-2 with keys of 4 + 4 bits.
    """
    bar = Bar("SDPA", 1.5, 2.2, most_error=1e-2)
    forms = (
        ("K 8+4, V int8, top 25 %", 8, 8, 0.25, Bound(2e-2, 8e-2, by_row=False), bar),
        ("K 8+4, V int8", 8, 8, 1.0, Bound(2e-2, 8e-2), None),
        ("K 4+4, V int8, top 25 %", 4, 8, 0.25, Bound(5e-2, 0.25, by_row=False), None),
        ("dense bf16", None, None, 1.0, Bound(6e-3, 2e-2, times=3), None),
    )
    return [
        Case("Decode attention", f"{name}, batch {batch}, 32 heads over 8 x 128, context 32768", _maker(batch, *form),
             () if own is None else (own,))
        for batch in (8, 64)
        for name, *form, own in forms
    ]  # fmt: skip


def _maker(batch: int, key_bits: int | None, value_bits: int | None, value_keep: float, bound: Bound) -> Any:
    return lambda place: _work(place, batch, KVFormat(key_bits, value_bits), value_keep, bound)


def _work(place: Place, batch: int, form: KVFormat, value_keep: float, bound: Bound) -> Work:
    inputs = _inputs(place.device, place.timed, place.size(batch, 2))
    q, k, v, exact = inputs
    store = _store(k, v, form)
    rule = {"value_keep": value_keep, "group_values": value_keep < 1, "token_scores": False, "head_scores": False}

    def ours() -> Tensor:
        return decode_attention(store, q, **rule).out

    low = float(decode_attention(store, q, **rule).low.float().mean()) if form.key_bits else 0.0
    work = Work(calls={"ours": ours}, exact=exact, bound=bound, moved=_bytes(store, low, value_keep))
    grouped = q.view(q.shape[0], k.shape[1], -1, q.shape[-1])  # the queries of a group as rows of one head
    for name, call in attention_backends(grouped, k, v).items():
        work.compare(name, lambda call=call: call)
    for name, call in attention_backends(q, k, v, enable_gqa=True).items():
        work.compare(f"{name}, enable_gqa", lambda call=call: call)
    return work


def _bytes(store: KVStore, low: float, value_keep: float) -> float:
    """What has to be read: keys without low bits but for those that need them, and the values that are multiplied."""
    size = store.head_dim
    without, whole = (store.format.token_bytes(size, 0, low=bits) for bits in (False, True))
    values = store.format.token_bytes(0, size) - store.format.token_bytes(0, 0)
    tokens = store.batch * store.kv_heads * store.width
    return tokens * (without + low * (whole - without) + value_keep * values)


@lru_cache(maxsize=1)
def _inputs(device: torch.device, full: bool, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v in bf16, and the exact result; all but `_FLAT` of the heads attend mostly to three tokens."""
    heads, kv_heads, size, context = (32, 8, 128, 32768) if full else (4, 2, 32, 96)
    torch.manual_seed(1)
    q = torch.randn(batch, heads, 1, size, device=device).to(_BF16)
    k, v = (torch.randn(batch, kv_heads, context, size, device=device).to(_BF16) for _ in range(2))
    own = q[:, :, 0].float()
    peaked = torch.arange(batch * heads, device=device).view(batch, heads) >= int(_FLAT * batch * heads)
    group = torch.arange(heads, device=device) % (heads // kv_heads)
    for place, bonus in enumerate((2.5, 1.5, 0.5)):
        # A key along q whose score is log(context) + bonus.
        rows = own * ((math.log(context) + bonus) * math.sqrt(size) / own.square().sum(-1, keepdim=True))
        slot = (97 * (group + 1) + 31 * place) % context
        b, h = peaked.nonzero(as_tuple=True)
        k[b, h // (heads // kv_heads), slot[h]] = rows[b, h].to(_BF16)
    return q, k, v, torch.cat([_exact(*(part[i : i + 1] for part in (q, k, v))) for i in range(batch)])


def _exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = q.double(), k.double(), v.double()
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True).float()


def _store(k: Tensor, v: Tensor, form: KVFormat) -> KVStore:
    store = KVStore(k.shape[0], k.shape[1], k.shape[3], format=form, capacity=k.shape[2], device=k.device)
    for first in range(0, k.shape[2], _APPENDED):
        store.append(*(part[:, :, first : first + _APPENDED] for part in (k, v)))
    return store
