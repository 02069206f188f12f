"""The prompt's pass with fewer tokens from layer to layer, so that projections and feed-forward parts shrink."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparsecore.cascade.generation.choice import pick
from sparsecore.cascade.generation.counts import StepCounts
from sparsecore.cascade.generation.prompt import Prompt, Shrunk
from sparsecore.models.blocks import block_of, layers_of
from sparsecore.ops import gather_rows, scatter_rows_

if TYPE_CHECKING:
    from sparsecore.cascade.generation.cache import CascadeCache

__all__ = ["shrink_hooks"]


class _Shrinker:
    """Hooks of the layers of one model.

    Parameters
    ----------
    keyword: name of the argument that the cache travels under. layers: how many there are.
    """

    def __init__(self, keyword: str, layers: int) -> None:
        self._keyword, self._layers = keyword, layers

    def enter(
        self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before a layer of the prompt's pass: take the tokens that it computes out of what the last one left."""
        cache: CascadeCache | None = kwargs.get(self._keyword)
        if cache is None or not cache.in_prompt:
            return None
        hidden: Tensor = args[0]
        counts = StepCounts.exact(cache.settings, cache.tokens.seen, cache.tokens.prompt) if index else None
        if counts is not None and counts.drops[index]:
            hidden = _drop(cache, counts, index, hidden)
        if cache.shrunk is None:
            return None
        columns = cache.shrunk.columns.clamp(max=cache.shrunk.output.shape[1] - 1)
        for name in ("position_embeddings", "position_ids"):
            if (given := kwargs.get(name)) is not None:
                kwargs[name] = (
                    tuple(_at(x, columns) for x in given) if isinstance(given, tuple) else _at(given, columns)
                )
        return (hidden, *args[1:]), kwargs

    def leave(self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """After the last layer: return the last state of every position, [B, L, C]."""
        cache: CascadeCache | None = kwargs.get(self._keyword)
        if cache is None or not cache.in_prompt or cache.shrunk is None or index + 1 < self._layers:
            return None
        shrunk, cache.shrunk = cache.shrunk, None
        return scatter_rows_(shrunk.output, shrunk.columns, out)


def _at(x: Tensor, columns: Tensor) -> Tensor:
    """Take x [B or 1, L] or [B or 1, L, D] at `columns` [B, n]."""
    x = x.expand(len(columns), *x.shape[1:])
    return x.gather(1, columns) if x.dim() == 2 else gather_rows(x, columns)


def _drop(cache: CascadeCache, counts: StepCounts, index: int, hidden: Tensor) -> Tensor:
    """Keep the most important tokens in slots of their own: return them, [B, n', C], and describe them in the cache."""
    prompt, tokens = cache.prompt, cache.tokens
    batch, length = hidden.shape[:2]
    slots = torch.arange(length, device=hidden.device).repeat(batch, 1) if prompt.order is None else prompt.order
    keep, width = counts.keep[index], counts.widths[index]
    chosen = pick(tokens, index, prompt.ids, prompt.counts, prompt.width, keep, width)
    if cache.shrunk is None:
        columns = slots
        cache.shrunk = Shrunk(columns, hidden.clone())
    else:
        columns = cache.shrunk.columns
        scatter_rows_(cache.shrunk.output, columns, hidden)
    filled = torch.arange(width, device=hidden.device) < keep[:, None]
    cache.shrunk.columns = columns.gather(1, chosen).masked_fill_(~filled, cache.shrunk.output.shape[1])
    ids = chosen if prompt.ids is None else prompt.ids.gather(1, chosen)
    hidden = gather_rows(hidden, slots.gather(1, chosen))
    ragged = not bool(filled.all())
    order = torch.arange(width, device=hidden.device).repeat(batch, 1) if ragged else None
    cache.prompt = Prompt(filled if ragged else None, order, ids, keep, width)
    return hidden


def shrink_hooks(model: nn.Module, keyword: str) -> list[Any]:
    """Register the hooks that shrink the prompt's pass of `model`; each has a remove()."""
    layers = layers_of(model, block_of(model))
    shrinker = _Shrinker(keyword, len(layers))
    hooks: list[Any] = []
    for index, layer in enumerate(layers):
        hooks.append(layer.register_forward_pre_hook(partial(shrinker.enter, index), with_kwargs=True))
        hooks.append(layer.register_forward_hook(partial(shrinker.leave, index), with_kwargs=True))
    return hooks
