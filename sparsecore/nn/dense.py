"""Back from a packed layer to the dense one that it stands for."""

from __future__ import annotations

import torch
from torch import nn

from sparsecore.models import conv1d_like
from sparsecore.nn.sparse_linear import SparseLinear

__all__ = ["dense_layer"]


def dense_layer(layer: SparseLinear, dtype: torch.dtype | None = None) -> nn.Module:
    """Return the nn.Linear (or transformers' Conv1D) with the weight of `layer`, in `dtype` or the type it has.

    Pruned positions are zeros. The bias parameter is shared where its type does not change.
    """
    kind = dtype or layer.weight_dtype
    weight = layer.weight.to(kind)
    if layer.transposed:
        dense = conv1d_like(layer.in_features, layer.out_features)
    else:
        dense = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    dense.weight = nn.Parameter(weight)
    bias = layer.bias
    if bias is not None and bias.dtype != kind:
        bias = nn.Parameter(bias.detach().to(kind), requires_grad=bias.requires_grad)
    dense.register_parameter("bias", bias)
    return dense.train(layer.training)
