"""The forward pass of an encoder whose sequences shrink from layer to layer."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sparsecore.cascade.attention import Attended, attend
from sparsecore.cascade.state import CascadeState
from sparsecore.models import Family

__all__ = ["run_layers"]


def run_layers(encoder: nn.Module, family: Family, hidden: Tensor, state: CascadeState) -> Tensor:
    """Run all layers on the embeddings [B, L, hidden] and return the last state of every position, [B, L, hidden]."""
    hidden = state.begin(hidden)
    for index, layer in enumerate(cast(nn.ModuleList, encoder.get_submodule(family.layers))):
        hidden, attended = _run_layer(layer, family, index, hidden, state)
        hidden = state.after(index, hidden, attended)
    return state.finish()


def _run_layer(
    layer: nn.Module, family: Family, index: int, hidden: Tensor, state: CascadeState
) -> tuple[Tensor, Attended]:
    part = layer.get_submodule
    heads, size = state.info.heads, state.info.head_dim
    q, k, v = (part(name)(hidden) for name in (family.query, family.key, family.value))
    q, k, v = (x.unflatten(-1, (heads, size)).transpose(1, 2) for x in (q, k, v))
    pruned = state.head_ids.shape[1] < heads
    if pruned:
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        q, k, v = (x[rows, state.head_ids] for x in (q, k, v))
    attended = attend(q, k, v, state.counts, size**-0.5, state.schedule, index, state.wanted(index))
    out = attended.out
    if pruned:
        # A pruned head contributes zero to the output projection.
        out = out.new_zeros((len(hidden), heads, *out.shape[2:])).index_put((rows, state.head_ids), out)
    context = out.transpose(1, 2).flatten(2)
    mixed = part(family.attention_block)(context, hidden)
    return part(family.down_block)(part(family.up_block)(mixed), mixed), attended
