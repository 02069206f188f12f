"""Taking heads out of the attention of a transformer layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsecore.compact.slices import bias_of, keep_inputs, keep_outputs, matrix_of, zero_inputs, zero_outputs
from sparsecore.models.blocks import Block

__all__ = ["announce_heads", "shrink_heads"]


def shrink_heads(layer: nn.Module, block: Block) -> int:
    """Remove the query heads of `layer` whose result is zero or not read; return how many.

    A head goes if its columns of the output projection are zero, or if its values are (rows and bias zero): then every
    weighted mean of them is. Every group of query heads that shares keys must keep equally many, so groups go as a
    whole, and beyond that as many of each group as every group can spare. At least one head is kept.
    """
    attention = layer.get_submodule(block.attention)
    dim = int(getattr(attention, block.head_dim))
    out = layer.get_submodule(block.out)
    heads = matrix_of(out).shape[1] // dim
    values = layer.get_submodule(block.values)
    kv_heads = heads if block.fused else matrix_of(values).shape[0] // dim
    dead = zero_inputs(out).view(heads, dim).all(1)
    dead |= _without_values(values, block.fused, dim).repeat_interleave(heads // kv_heads)
    keep, kept_groups = _balanced(dead.view(kv_heads, heads // kv_heads))
    if len(keep) == heads:
        return 0
    rows = _rows(keep, dim)
    keep_inputs(out, rows)
    if block.fused:
        keep_outputs(layer.get_submodule(block.queries), torch.cat([rows + part * heads * dim for part in range(3)]))
    else:
        keep_outputs(layer.get_submodule(block.queries), rows)
        for path in (block.keys, block.values):
            keep_outputs(layer.get_submodule(path), _rows(kept_groups, dim))
    announce_heads(layer, block)
    return heads - len(keep)


def _without_values(values: nn.Module, fused: bool, dim: int) -> Tensor:
    """Which key heads have values that are always zero."""
    zero = zero_outputs(values) & (bias_of(values) == 0)
    if fused:
        zero = zero.view(3, -1)[2]
    return zero.view(-1, dim).all(1)


def _balanced(dead: Tensor) -> tuple[Tensor, Tensor]:
    """(query heads, groups) to keep of dead [groups, heads of a group], as indices."""
    gone = dead.all(1)
    if gone.all():
        gone[0] = False
    groups = torch.nonzero(~gone).flatten()
    size = dead.shape[1]
    spare = min(int(dead[groups].sum(1).min()), size - 1)
    keep: list[int] = []
    for group in groups.tolist():
        # Of the dead heads of a group the first are dropped, as many as every group can spare.
        dropped = set(torch.nonzero(dead[group]).flatten()[:spare].tolist())
        keep.extend(group * size + head for head in range(size) if head not in dropped)
    return torch.tensor(keep, dtype=torch.int64), groups


def _rows(heads: Tensor, dim: int) -> Tensor:
    return (heads[:, None] * dim + torch.arange(dim)).flatten()


def announce_heads(layer: nn.Module, block: Block) -> None:
    """Tell the attention of `layer` how many heads its projections have, by the names that it has for the sizes."""
    attention = layer.get_submodule(block.attention)
    dim = int(getattr(attention, block.head_dim))
    heads = matrix_of(layer.get_submodule(block.out)).shape[1] // dim
    kv_heads = heads if block.fused else matrix_of(layer.get_submodule(block.values)).shape[0] // dim
    sizes = {
        **dict.fromkeys(block.heads, heads),
        **dict.fromkeys(block.kv_heads, kv_heads),
        **dict.fromkeys(block.widths, heads * dim),
        **dict.fromkeys(block.groups, heads // kv_heads),
    }
    for name, size in sizes.items():
        if hasattr(attention, name):
            setattr(attention, name, size)
