"""Keys and values of one decoder layer, and which tokens they belong to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from sparsecore.cascade.generation.settings import Settings
from sparsecore.cascade.kv_store import KVFormat, KVStore
from sparsecore.errors import UnsupportedError
from sparsecore.ops.decode_attention import kv_append_

__all__ = ["CascadeLayer"]

_ROOM = 256


class CascadeLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """The rows of one layer: B sequences, each with `counts[b]` rows in ascending order of their token's id.

    Parameters
    ----------
    settings: what was asked for.

    Attributes
    ----------
    store: keys and values, or None before the first pass.
    ids: int64 [B, capacity], the token of each row; None where row r holds token r.
    columns: positions that passed through, those of padding included.
    """

    is_compileable = False
    is_croppable = False
    supports_early_init = False

    def __init__(self, settings: Settings) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.settings = settings
        self.store: KVStore | None = None
        self.ids: Tensor | None = None
        self.columns = 0
        self.frozen = False

    @property
    def counts(self) -> Tensor:
        """Return the rows of each sequence, int64 [B]."""
        assert self.store is not None
        return self.store.lengths

    @property
    def width(self) -> int:
        """Return the most rows of any sequence."""
        assert self.store is not None
        return self.store.width

    def tokens(self, rows: Tensor | None) -> Tensor:
        """Return the tokens of `rows`, int64 [B, n] (None: of all), in a layer that knows them."""
        assert self.ids is not None
        return self.ids[:, : self.width] if rows is None else self.ids.gather(1, rows)

    def fill(self, k: Tensor, v: Tensor, ids: Tensor | None, order: Tensor | None, counts: Tensor) -> None:
        """Store the first pass.

        Parameters
        ----------
        k, v: [B, Hkv, n, D]. ids: int64 [B, m], tokens of the rows that stay, or None if row r holds token r.
        order: int64 [B, m], which of the n rows stay, ascending; None: all. counts: int64 [B], how many of them.
        """
        batch, heads, tokens, size = k.shape
        schedule = self.settings.schedule
        held = KVFormat(schedule.msb_bits, schedule.value_bits, k.dtype)
        self.store = KVStore(batch, heads, size, v.shape[3], format=held, capacity=tokens + _ROOM, device=k.device)
        self.store.append(k, v)
        if order is not None:
            self.store.evict(order, counts)
        self.ids = ids
        self.is_initialized = True

    def append(self, k: Tensor, v: Tensor, seen: Tensor) -> None:
        """Add the rows of the tokens with the ids `seen[b]`, `seen[b]` + 1, ...; k, v: [B, Hkv, t, D]."""
        assert self.store is not None
        if self.ids is not None:
            fresh = k.shape[2]
            if (missing := self.width + fresh - self.ids.shape[1]) > 0:
                self.ids = torch.nn.functional.pad(self.ids, (0, missing + _ROOM))
            steps = torch.arange(fresh, device=seen.device)
            self.ids.scatter_(1, self.counts[:, None] + steps, seen[:, None] + steps)
        self.store.append(k, v)

    def freeze(self, capacity: int) -> None:
        """Make room for `capacity` tokens, once and for all."""
        assert self.store is not None
        self.store.reserve(capacity)
        self.frozen = True

    def append_frozen(self, k: Tensor, v: Tensor) -> None:
        """Add the row of one token of each sequence to a frozen layer; k, v: [B, Hkv, 1, D]."""
        store = self.store
        assert store is not None
        bits = store.format.value_bits or 0
        kv_append_(store.keys, store.values, k, v, store.lengths, msb_bits=store.msb_bits, value_bits=bits)
        store.lengths = store.lengths + 1

    def keep(self, index: Tensor, counts: Tensor) -> None:
        """Remove all rows but `index[b, : counts[b]]` (int64 [B, n], ascending) for good."""
        assert self.store is not None and self.ids is not None
        self.store.evict(index, counts)
        self.ids = self.ids.gather(1, index)

    def shorten(self, tokens: int) -> None:
        """Take back the newest `tokens` rows of every sequence."""
        if self.store is None:
            return
        counts = self.counts - tokens
        index = torch.arange(self.width - tokens, device=counts.device).repeat(len(counts), 1)
        self.store.evict(index, counts)

    def take(self, rows: Tensor) -> None:
        """Put the sequences `rows` (int64 [B']) in the place of what was there."""
        if self.store is None:
            return
        self.store.reorder(rows)
        if self.ids is not None:
            self.ids = self.ids[rows]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Pass on what transformers hands over: the attention function stores it, after it has made room."""
        return key_states, value_states

    def reset(self) -> None:
        """Forget everything."""
        self.__init__(self.settings)  # type: ignore[misc]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: `fill` makes the store."""

    def get_seq_length(self) -> int:
        """Return the positions that passed through, whatever was removed of them."""
        return self.columns

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length and the offset of a mask over all positions."""
        return self.columns + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: there is no limit."""
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse, see CascadeCache.crop."""
        raise UnsupportedError("a layer of a cascade cache cannot be cropped by itself", hint="crop the cache")
