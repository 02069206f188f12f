"""A given text read as while generating, token by token, so that what a decoder's cascade costs can be measured."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from sparsecore.cascade.generation.handle import cache_argument
from sparsecore.errors import InvalidValueError
from sparsecore.models import body_of

__all__ = ["read_by_token"]


def read_by_token(model: nn.Module, inputs: Mapping[str, Any], most: int = 32) -> Any:
    """Return an output with what a decoder says at the last tokens of `inputs`, which it reads one by one.

    Parameters
    ----------
    inputs: `input_ids` [B, L], and `attention_mask` [B, L] where there is padding, on the left.
    most: tokens to read one by one: so many, or half of the shortest text; what stands before them is the prompt.

    Returns `logits` [B, steps, vocabulary], or `last_hidden_state` [B, steps, C] of a model without a head.

    Raises
    ------
    InvalidValueError: no input_ids, or a text of fewer than two tokens.
    """
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        raise InvalidValueError("no input_ids [B, L]", where="inputs", expected="texts that a decoder can read")
    mask = inputs.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask
    steps = min(most, int(mask.sum(1).min()) // 2) if len(ids) else 0
    if steps < 1:
        raise InvalidValueError("a text of fewer than two tokens", where="inputs", expected="a prompt and what follows")
    places = (mask.cumsum(1) - 1).clamp(min=0)
    cache = {cache_argument(body_of(model)): DynamicCache()}
    found: list[Tensor] = []
    begin = 0
    for end in range(ids.shape[1] - steps, ids.shape[1] + 1):
        new = slice(begin, end)
        out = model(ids[:, new], attention_mask=mask[:, :end], position_ids=places[:, new], use_cache=True, **cache)
        name = "logits" if hasattr(out, "logits") else "last_hidden_state"
        if begin:
            found.append(out[name])
        begin = end
    return SimpleNamespace(**{name: torch.cat(found, dim=1)})
