"""The cache of a generation with cascade pruning: rows of all layers, and what is known of their tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from sparsecore.cascade.generation import steps
from sparsecore.cascade.generation.choice import Choice
from sparsecore.cascade.generation.counts import StepCounts
from sparsecore.cascade.generation.layer import CascadeLayer
from sparsecore.cascade.generation.prompt import Prompt, Shrunk
from sparsecore.cascade.generation.record import GenerationRun, Record
from sparsecore.cascade.generation.settings import Settings
from sparsecore.cascade.generation.tokens import Tokens
from sparsecore.errors import InvalidValueError, ShapeError, UnsupportedError
from sparsecore.models.info import ModelInfo

__all__ = ["CascadeCache"]

_ROOM = 256


class CascadeCache(Cache):
    """Keys and values of B sequences for a decoder that `sparsecore.cascade.apply` was applied to.

    `model.generate` makes one by itself; one that is passed in must come from `handle.cache()`. Lengths and positions
    count the tokens that passed through, not the rows that are left.

    Parameters
    ----------
    settings: what was asked for. positions: rows of the model's table of positions; None: it has none.
    """

    layers: list[CascadeLayer]  # type: ignore[assignment]

    def __init__(self, settings: Settings, positions: int | None = None) -> None:
        super().__init__(layers=[CascadeLayer(settings) for _ in range(settings.info.layers)])
        self.settings = settings
        self._positions = positions
        self.steps = Record(settings)
        self._clear()

    def _clear(self) -> None:
        self.columns = 0
        self.seen: list[int] = []
        self.prompts: list[int] = []
        self.evicted = False
        self._since_eviction = self.settings.interval
        self._pass = steps.prefill
        self._begun = False
        self.frozen = 0
        self._position = torch.zeros((), dtype=torch.int64)
        self.shrunk: Shrunk | None = None

    @property
    def in_prompt(self) -> bool:
        """Whether the pass that was begun is the prompt's."""
        return self._pass is steps.prefill

    @property
    def separate(self) -> bool:
        """Whether layers have different rows."""
        return self.settings.mode == "evict" or self.settings.shrink_prefill

    def begin(self, batch: int, fresh: int, mask: Tensor | None, device: torch.device) -> None:
        """Prepare a pass of `fresh` positions of `batch` sequences; mask: [B, all positions], nonzero where a token is.

        Raises
        ------
        InvalidValueError: another number of sequences than before, or more positions than the model has.
        ShapeError: a mask of another shape. UnsupportedError: padding behind the first pass, or a mask that shows other
            tokens than passed through.
        """
        self._begun = True
        if self.frozen:
            self._begin_frozen(batch, fresh)
            return
        total = self.columns + fresh
        if self._positions is not None and total > self._positions:
            raise InvalidValueError(
                f"{total} tokens, more than the model has positions", expected=f"at most {self._positions}"
            )
        if mask is not None and mask.shape != (batch, total):
            raise ShapeError(
                f"the attention mask is {list(mask.shape)}", where="attention_mask", expected=f"[{batch}, {total}]"
            )
        if not self.columns:
            self._begin_prompt(batch, fresh, mask, device)
        else:
            self._begin_more(batch, fresh, mask)
        self._total = total

    def attend(self, index: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Return the attention of layer `index` in the pass that was begun, [B, H, n, D], and store k and v."""
        out: Tensor = self._pass(self, index, q, k, v, scale)
        if index + 1 == len(self.layers):
            self._end()
        return out

    def _end(self) -> None:
        """Count the positions of a pass: until its last layer, the model asks for the length before it."""
        self._begun = False
        if self.frozen:
            self._position = self._position + 1
            return
        self.columns = self._total
        for layer in self.layers:
            layer.columns = self._total

    def _begin_prompt(self, batch: int, fresh: int, mask: Tensor | None, device: torch.device) -> None:
        self.prompt = Prompt.whole(batch, fresh, mask, device)
        self.seen = self.prompt.counts.tolist()
        self.prompts = list(self.seen)
        self.tokens = Tokens(self.settings, self.prompt.counts, fresh + _ROOM)
        self.tokens.see(self.prompt.counts)
        self._pass = steps.prefill

    def _begin_more(self, batch: int, fresh: int, mask: Tensor | None) -> None:
        if batch != len(self.seen):
            raise InvalidValueError(f"{batch} sequences for a cache of {len(self.seen)}", where="cache")
        if mask is not None and not bool(mask[:, -fresh:].all()):
            raise UnsupportedError("padding behind the first pass", where="attention_mask", hint="pad on the left")
        seen = [before + fresh for before in self.seen]
        if mask is not None and mask.count_nonzero(1).tolist() != seen:
            raise UnsupportedError(
                "the mask does not show the tokens that the cache holds",
                where="attention_mask",
                expected=f"{seen} tokens",
            )
        self.seen = seen
        self.tokens.reserve(max(self.seen, default=0))
        if fresh > 1:
            self.prompts = list(self.seen)
            self.tokens.see(fresh)
            self._pass = steps.extend
            return
        self.tokens.see_one()
        evicts = self.settings.mode == "evict"
        due = evicts and self._since_eviction >= self.settings.interval
        self._since_eviction = 1 if due else self._since_eviction + 1
        plan = StepCounts.exact(self.settings, self.tokens.seen, self.tokens.prompt)
        self.choice = Choice(self.tokens, plan, separate=self.separate, chooses=due or not evicts, evicts=evicts)
        self.evicted = self.evicted or (due and any(plan.drops))
        self.steps.begin(self.seen)
        self._pass = steps.decode

    def freeze(self, capacity: int) -> None:
        """Give all tensors their final size, `capacity` tokens, so that a compiled decoding step is traced once.

        From now on a pass is one token of every sequence, of whose reading there is no record.

        Raises
        ------
        UnsupportedError: layers have different rows ("evict" mode, shrink_prefill).
        InvalidValueError: no prompt was read yet, or there are more tokens than `capacity` already.
        """
        if self.separate:
            raise UnsupportedError("layers with different rows change size", where="freeze", hint='mode="select"')
        if not self.columns or capacity < max(self.seen, default=0):
            raise InvalidValueError(f"a capacity of {capacity} for {self.seen} tokens", where="freeze")
        self.frozen = capacity
        self.tokens.reserve(capacity)
        self._position = torch.tensor(self.columns, device=self.tokens.seen.device)
        self._pass = steps.decode
        for layer in self.layers:
            layer.freeze(capacity)

    def _begin_frozen(self, batch: int, fresh: int) -> None:
        if fresh != 1 or batch != len(self.tokens.seen):
            raise UnsupportedError(f"{fresh} tokens of {batch} sequences for a frozen cache", where="cache")
        self.tokens.see_one()
        plan = StepCounts.bounded(self.settings, self.tokens.seen, self.tokens.prompt, self.frozen)
        self.choice = Choice(self.tokens, plan, separate=False, chooses=True, evicts=False)

    def own_ids(self) -> Tensor | None:
        """Return the tokens in the slots of the prompt's pass, int64 [B, n], a copy; None: row r is token r."""
        if not self.separate:
            return None
        if self.prompt.ids is not None:
            return self.prompt.ids.clone()
        return torch.arange(self.prompt.width, device=self.prompt.counts.device).repeat(len(self.seen), 1)

    def record(self, info: ModelInfo) -> GenerationRun:
        """Return what the decoding steps so far read, of a model of these sizes."""
        return self.steps.run(info, self.prompts, self.bytes())

    def bytes(self) -> int:
        """Return the bytes that the rows of all layers take."""
        return sum(layer.store.bytes() for layer in self.layers if layer.store is not None)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Pass on what transformers hands over: the attention function stores it, after it has made room.

        Raises
        ------
        UnsupportedError: a model without this cascade calls, whose attention would see nothing but the newest tokens.
        """
        if not self._begun:
            raise UnsupportedError(
                "the model that got this cache has no cascade handle",
                where="cache",
                expected="the model whose handle made it, before remove()",
            )
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> Any:
        """Return the positions that passed through, padding included, whatever was removed of them.

        An int, or a tensor [] where the cache is frozen.
        """
        return self._position if self.frozen else self.columns

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Return the length and the offset of a mask over all positions."""
        return (self.frozen or self.columns + query_length), 0

    @property
    def is_croppable(self) -> bool:
        """Whether the newest tokens can be taken back."""
        return not self.evicted and not self.settings.shrink_prefill

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the newest -`tokens_to_remove` tokens; what they added to the importance of others stays.

        Raises
        ------
        UnsupportedError: rows were removed for good. InvalidValueError: a positive number, or more than there are.
        """
        if tokens_to_remove == 0:
            return
        if not self.is_croppable:
            raise UnsupportedError(
                "the cache cannot be cropped: rows were removed for good",
                where="crop",
                hint='mode="select" without shrink_prefill keeps every token; assisted decoding needs it',
            )
        if tokens_to_remove > 0 or -tokens_to_remove > min(self.seen, default=0):
            raise InvalidValueError(
                f"crop of {tokens_to_remove}",
                where="crop",
                expected=f"a negative number of tokens, at least {-min(self.seen, default=0)}",
            )
        self.columns += tokens_to_remove
        self.seen = [seen + tokens_to_remove for seen in self.seen]
        self.tokens.forget(-tokens_to_remove)
        for layer in self.layers:
            layer.columns = self.columns
            layer.shorten(-tokens_to_remove)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let sequence b continue what was sequence beam_idx[b]."""
        self._take(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only the sequences `indices`."""
        self._take(torch.arange(len(self.seen), device=indices.device)[indices])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Have each sequence `repeats` times, one after the other."""
        self._take(torch.arange(len(self.seen)).repeat_interleave(repeats))

    def _take(self, rows: Tensor) -> None:
        if not self.columns:
            return
        rows = rows.to(self.tokens.seen.device)
        order = rows.tolist()
        if len(order) != len(self.seen):
            self.steps = Record(self.settings)  # a step of another number of sequences has no place in the run
        self.seen = [self.seen[row] for row in order]
        self.prompts = [self.prompts[row] for row in order]
        self.tokens.take(rows)
        for layer in self.layers:
            layer.take(rows)

    def reset(self) -> None:
        """Forget all sequences."""
        for layer in self.layers:
            layer.reset()
        self.steps = Record(self.settings)
        self._clear()
