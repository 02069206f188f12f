"""What a call of a Hugging Face model says about its sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparsecore.errors import UnsupportedError

__all__ = ["token_mask"]


def token_mask(given: Mapping[str, Any]) -> Tensor:
    """Return bool [B, L]: which positions hold a token, from the arguments of the body's forward by name.

    Raises
    ------
    UnsupportedError: neither token ids nor embeddings, or a mask that is not [B, L].
    """
    tokens = given.get("input_ids")
    if tokens is None:
        tokens = given.get("inputs_embeds")
    if not isinstance(tokens, Tensor) or tokens.dim() < 2:
        raise UnsupportedError("the model was called without input_ids [B, L] and inputs_embeds", where="forward")
    shape = tokens.shape[:2]
    mask: Tensor | None = given.get("attention_mask")
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=tokens.device)
    if mask.shape != shape:
        raise UnsupportedError(
            f"an attention mask of shape {tuple(mask.shape)} is not supported here",
            where="attention_mask",
            expected=f"{tuple(shape)}: which positions hold a token",
        )
    return mask != 0
