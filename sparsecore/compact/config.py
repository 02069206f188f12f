"""Writes the sizes of a compacted model into its config, as far as a config can say them."""

from __future__ import annotations

from typing import Any

from torch import nn

from sparsecore.compact.slices import matrix_of
from sparsecore.models.blocks import Block, layers_of

__all__ = ["update_config"]


def update_config(model: nn.Module, block: Block) -> bool:
    """Set the common sizes of all layers in `model.config`; return whether it now describes the model.

    A config has one size for all layers. Where they differ it is left alone, and `from_pretrained` cannot read what
    `save_pretrained` writes.
    """
    config: Any = model.config
    neurons, heads, kv_heads = (
        {size(layer, block) for layer in layers_of(model, block)} for size in (_neurons, _heads, _kv_heads)
    )
    if max(map(len, (neurons, heads, kv_heads))) > 1:
        return False
    # GPT-2's n_inner: None stands for four times the width.
    said = getattr(config, block.config_neurons) or 4 * config.hidden_size
    if neurons and neurons != {said}:
        setattr(config, block.config_neurons, neurons.pop())
    if block.config_heads and heads:
        config.head_dim = getattr(layers_of(model, block)[0].get_submodule(block.attention), block.head_dim)
        setattr(config, block.config_heads, heads.pop())
        setattr(config, block.config_kv_heads, kv_heads.pop())
        return True
    return heads <= {config.num_attention_heads}


def _neurons(layer: nn.Module, block: Block) -> int:
    return matrix_of(layer.get_submodule(block.down)).shape[1]


def _heads(layer: nn.Module, block: Block) -> int:
    dim: int = getattr(layer.get_submodule(block.attention), block.head_dim)
    return matrix_of(layer.get_submodule(block.out)).shape[1] // dim


def _kv_heads(layer: nn.Module, block: Block) -> int:
    dim: int = getattr(layer.get_submodule(block.attention), block.head_dim)
    return matrix_of(layer.get_submodule(block.keys)).shape[0] // dim // (3 if block.fused else 1)
