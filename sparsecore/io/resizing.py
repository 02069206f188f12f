"""Giving the layers of a model the sizes that a structurally pruned checkpoint has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparsecore.compact.heads import announce_heads
from sparsecore.errors import ShapeError
from sparsecore.io.checkpoint import LoadedCheckpoint
from sparsecore.io.names import join
from sparsecore.models import is_conv1d
from sparsecore.models.blocks import BLOCKS, block_of, layers_of

__all__ = ["resize_layers"]

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def resize_layers(model: nn.Module, checkpoint: LoadedCheckpoint) -> None:
    """Give every layer of `model` whose tensors have other sizes in `checkpoint` those sizes, without values yet.

    Known are linear layers, convolutions without groups, embeddings, layer and batch normalisation. The attention of
    Hugging Face models of a known family is told its new number of heads.

    Raises ShapeError for another layer whose shapes differ.
    """
    resized = False
    for name, module in model.named_modules():
        shapes = _shapes(name, module, checkpoint)
        if all(shape == tuple(tensor.shape) for tensor, shape in shapes.values()):
            continue
        _announce_sizes(name, module, {short: shape for short, (_, shape) in shapes.items()})
        for short, (tensor, shape) in shapes.items():
            # On the meta device: loading assigns what the file has.
            empty = torch.empty(shape, dtype=tensor.dtype, device="meta")
            if short in module._parameters:
                module.register_parameter(short, nn.Parameter(empty, tensor.requires_grad))
            else:
                module.register_buffer(short, empty)
        resized = True
    if resized and getattr(getattr(model, "config", None), "model_type", None) in BLOCKS:
        block = block_of(model)
        for layer in layers_of(model, block):
            announce_heads(layer, block)


def _shapes(name: str, module: nn.Module, checkpoint: LoadedCheckpoint) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """The own tensors of `module` that are in the checkpoint, with their shape there."""
    own = {**module._parameters, **module._buffers}
    return {
        short: (tensor, checkpoint.shape(join(name, short)))
        for short, tensor in own.items()
        if tensor is not None and join(name, short) in checkpoint
    }


def _announce_sizes(name: str, module: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    """Set the attributes that hold sizes; `shapes` are those of the tensors."""
    weight = shapes.get("weight", ())
    sizes = next((find(weight) for kinds, rank, find in _RULES if _is(module, kinds) and len(weight) == rank), None)
    grouped = isinstance(module, _CONVOLUTIONS) and module.groups != 1
    if sizes is None or grouped:
        kind = type(module).__name__
        raise ShapeError(f"a {kind} cannot be given other sizes: {shapes}", where=name, expected="those of the model")
    for attribute, size in sizes.items():
        setattr(module, attribute, size)


def _is(module: nn.Module, kinds: tuple[type[nn.Module], ...] | str) -> bool:
    return is_conv1d(module) if isinstance(kinds, str) else isinstance(module, kinds)


_Sizes = Callable[[tuple[int, ...]], dict[str, Any]]
_RULES: tuple[tuple[tuple[type[nn.Module], ...] | str, int, _Sizes], ...] = (
    ((nn.Linear,), 2, lambda shape: {"out_features": shape[0], "in_features": shape[1]}),
    ("Conv1D", 2, lambda shape: {"nx": shape[0], "nf": shape[1]}),
    ((nn.Embedding,), 2, lambda shape: {"num_embeddings": shape[0], "embedding_dim": shape[1]}),
    ((nn.LayerNorm,), 1, lambda shape: {"normalized_shape": shape}),
    (_BATCH_NORMS, 1, lambda shape: {"num_features": shape[0]}),
    (_CONVOLUTIONS[:1], 3, lambda shape: {"out_channels": shape[0], "in_channels": shape[1]}),
    (_CONVOLUTIONS[1:2], 4, lambda shape: {"out_channels": shape[0], "in_channels": shape[1]}),
    (_CONVOLUTIONS[2:], 5, lambda shape: {"out_channels": shape[0], "in_channels": shape[1]}),
)
