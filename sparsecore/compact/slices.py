"""Taking outputs or inputs out of a linear layer, in place."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sparsecore.errors import UnsupportedError
from sparsecore.models import is_conv1d

__all__ = ["bias_of", "keep_inputs", "keep_outputs", "matrix_of", "zero_inputs", "zero_outputs"]


def matrix_of(layer: nn.Module) -> Tensor:
    """The weight [out_features, in_features] of an nn.Linear or a transformers Conv1D, a view."""
    if is_conv1d(layer):
        return cast(Tensor, layer.weight).detach().t()
    if isinstance(layer, nn.Linear):
        return layer.weight.detach()
    raise UnsupportedError(
        f"cannot take features out of a {type(layer).__name__}",
        expected="an nn.Linear or a transformers Conv1D",
        hint="compact the model before its layers are packed",
    )


def bias_of(layer: nn.Module) -> Tensor:
    """The bias [out_features]; zeros where the layer has none."""
    bias = layer._parameters.get("bias")
    matrix = matrix_of(layer)
    return matrix.new_zeros(matrix.shape[0]) if bias is None else bias.detach()


def zero_outputs(layer: nn.Module) -> Tensor:
    """Which outputs have no weight, bool [out_features]; the bias is not looked at."""
    return ~(matrix_of(layer) != 0).any(1)


def zero_inputs(layer: nn.Module) -> Tensor:
    """Which inputs have no weight, bool [in_features]."""
    return ~(matrix_of(layer) != 0).any(0)


def keep_outputs(layer: nn.Module, keep: Tensor) -> None:
    """Keep the outputs in `keep`, int64 indices, in that order."""
    _set_weight(layer, matrix_of(layer)[keep])
    bias = layer._parameters.get("bias")
    if bias is not None:
        layer.register_parameter("bias", nn.Parameter(bias.detach()[keep].clone(), bias.requires_grad))


def keep_inputs(layer: nn.Module, keep: Tensor) -> None:
    """Keep the inputs in `keep`, int64 indices, in that order."""
    _set_weight(layer, matrix_of(layer)[:, keep])


def _set_weight(layer: nn.Module, matrix: Tensor) -> None:
    before = cast(nn.Parameter, layer.weight)
    turned = is_conv1d(layer)
    values = (matrix.t() if turned else matrix).clone(memory_format=torch.contiguous_format)
    layer.register_parameter("weight", nn.Parameter(values, before.requires_grad))
    names = ("nf", "nx") if turned else ("out_features", "in_features")
    for name, size in zip(names, matrix.shape, strict=True):
        setattr(layer, name, size)
