"""Scores of single weights: the higher, the more the weight is worth keeping."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["magnitude"]


def magnitude(weight: Tensor) -> Tensor:
    """|w| in fp32, of the shape of `weight`; a NaN scores as infinity, so that pruning never hides one.

    Source: S. Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015.
    """
    return torch.nan_to_num(weight.detach().float().abs(), nan=torch.inf, posinf=torch.inf)
