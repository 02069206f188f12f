"""What int8 costs in accuracy: the error of a quantised layer against the one that it was made from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsecore.errors import ShapeError
from sparsecore.nn import SparseLinear

__all__ = ["output_error"]


def output_error(layer: SparseLinear, dense: nn.Linear, x: Tensor) -> float:
    """Relative error of the outputs of `layer` for x [..., in_features]: |y - y'| / |y'| with Frobenius norms.

    y' is the product with the weight and bias of `dense` in float64. 0 where both are zero, inf where only y' is.
    Raises ShapeError where the two layers have other sizes.
    """
    if layer.weight_shape != tuple(dense.weight.shape):
        raise ShapeError(
            f"the layers are {list(layer.weight_shape)} and {list(dense.weight.shape)}",
            where="output_error",
            expected="two forms of one layer",
        )
    with torch.no_grad():
        bias = None if dense.bias is None else dense.bias.double()
        exact = F.linear(x.double(), dense.weight.double(), bias)
        error, size = float((layer(x).double() - exact).norm()), float(exact.norm())
    return error / size if size else (float("inf") if error else 0.0)
