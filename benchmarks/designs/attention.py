"""A model whose attention is computed by the rule of a design, head by head, in the design's arithmetic."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from simulator.designs.decision import Rule
from sparsecore.models import body_of

NAME = "design_rule"


@contextmanager
def computed_by(model: nn.Module, rule: Rule) -> Iterator[None]:
    """While this is entered, every attention of `model` is `rule`'s output for what holds tokens."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)
    body: Any = body_of(model)
    old, own = body.config, copy.copy(body.config)
    own._attn_implementation = NAME
    modules = [module for module in body.modules() if getattr(module, "config", None) is old]
    hook = body.register_forward_pre_hook(lambda _, args, kwargs: (args, kwargs | {NAME: rule}), with_kwargs=True)
    for module in modules:
        module.config = own
    try:
        yield
    finally:
        hook.remove()
        for module in modules:
            module.config = old


def _mask(**kwargs: Any) -> Tensor | None:
    full: Tensor | None = sdpa_mask(**kwargs | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    return full


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    rule: Rule = kwargs[NAME]
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    out = torch.zeros(*query.shape[:3], value.shape[-1], dtype=query.dtype)
    shared = query.shape[1] // key.shape[1]
    for row in range(query.shape[0]):
        seen = np.ones((query.shape[2], key.shape[2]), bool)
        if attention_mask is not None:
            seen = attention_mask[min(row, len(attention_mask) - 1), 0].numpy()
        held = np.flatnonzero(seen.any(axis=0))  # what no query sees is padding
        for head in range(query.shape[1]):
            k, v = (x[row, head // shared].double().numpy()[held] for x in (key, value))
            made = rule.decide(query[row, head].double().numpy(), k, v, scale, seen[:, held])
            out[row, head] = torch.from_numpy(np.asarray(made.output)).to(out.dtype)
    return out.transpose(1, 2), None
