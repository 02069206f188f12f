"""Compaction: a model whose zeros fill whole rows, columns, heads, channels or layers becomes a really smaller one.

    summary = sc.compact(model)                             # Hugging Face BERT, GPT-2, Llama and Qwen, ViT
    summary = sc.compact(model, example_inputs=(x,))        # plain chains of Linear, Conv and BatchNorm with residuals

The outputs stay those of the masked model, up to the rounding of constants that move into a bias.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sparsecore.compact.config import update_config
from sparsecore.compact.feed_forward import shrink_feed_forward
from sparsecore.compact.heads import shrink_heads
from sparsecore.compact.layers import drop_layers
from sparsecore.compact.summary import CompactSummary
from sparsecore.errors import UnsupportedError
from sparsecore.models.blocks import BLOCKS, block_of, layers_of
from sparsecore.nn import SparseExperts, SparseLinear

__all__ = ["CompactSummary", "compact"]


@torch.no_grad()
def compact(model: nn.Module, example_inputs: Any = None) -> CompactSummary:
    """Remove in place what is entirely zero, and say what was removed.

    Parameters
    ----------
    model: a Hugging Face model of a known family; with example_inputs, any model that torch can trace.
    example_inputs: a tensor, a tuple of positional arguments, or a mapping of keyword arguments, of a call. Needed for
        plain models, where the way that layers depend on each other is found by running them (through torch-pruning).

    Layers that become smaller keep their class. The config of a Hugging Face model follows where it can say the new
    sizes (`summary.in_config`): then `save_pretrained` and `from_pretrained` work as ever. Where layers end with
    different sizes it cannot: `sparsecore.save` writes the weights, and the module itself is needed to load them.

    Raises
    ------
    UnsupportedError: a model of an unknown kind without example_inputs, or one with packed layers: compact it first.
    MissingDependencyError: a plain model, and torch-pruning is not installed.
    """
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear | SparseExperts):
            raise UnsupportedError("the model has packed layers", where=name, hint="compact it first, then sparsify")
    before = _parameters(model)
    if isinstance(example_inputs, torch.Tensor):
        example_inputs = (example_inputs,)
    if getattr(getattr(model, "config", None), "model_type", None) not in BLOCKS and example_inputs is not None:
        from sparsecore.compact.chains import shrink_chains

        channels = shrink_chains(model, example_inputs)
        return CompactSummary(channels=tuple(channels.items()), parameters=(before, _parameters(model)))
    block = block_of(model)
    dropped = drop_layers(model, block)
    layers = layers_of(model, block)
    heads = tuple(shrink_heads(layer, block) for layer in layers)
    neurons = tuple(shrink_feed_forward(layer, block) for layer in layers)
    described = update_config(model, block)
    return CompactSummary(tuple(dropped), heads, neurons, (), (before, _parameters(model)), described)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
