"""Taking whole transformer layers out of a model."""

from __future__ import annotations

from typing import Any

from torch import nn

from sparsecore.compact.slices import bias_of, zero_outputs
from sparsecore.models.blocks import Block, layers_of

__all__ = ["drop_layers"]


def drop_layers(model: nn.Module, block: Block) -> list[int]:
    """Remove the layers that add nothing to the residual stream; return their numbers, as they were.

    Only where the norms stand before the parts: a layer whose two projections back are zero then passes its input on
    unchanged. At least one layer is kept.
    """
    layers = layers_of(model, block)
    if not block.pre_norm:
        return []
    gone = [number for number, layer in enumerate(layers) if _adds_nothing(layer, block)]
    if len(gone) == len(layers):
        gone = gone[:-1]
    if not gone:
        return []
    for number in reversed(gone):
        del layers[number]
    for number, layer in enumerate(layers):
        for path in block.layer_index:
            module = layer.get_submodule(path)
            if hasattr(module, "layer_idx"):
                module.layer_idx = number  # type: ignore[assignment]
    _shorten(model, block, gone, len(layers))
    return gone


def _adds_nothing(layer: nn.Module, block: Block) -> bool:
    back = [layer.get_submodule(path) for path in (block.out, block.down)]
    return all(bool((zero_outputs(one) & (bias_of(one) == 0)).all()) for one in back)


def _shorten(model: nn.Module, block: Block, gone: list[int], left: int) -> None:
    config: Any = model.config
    for name in block.layer_counts:
        setattr(config, name, left)
    for name in block.per_layer:
        listed = getattr(config, name, None)
        if isinstance(listed, list):
            setattr(config, name, [entry for number, entry in enumerate(listed) if number not in gone])
