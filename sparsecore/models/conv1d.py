"""transformers' Conv1D (GPT-2 and relatives): a linear layer whose weight is stored [in_features, out_features]."""

from __future__ import annotations

import sys
from typing import cast

import torch
from torch import nn

__all__ = ["conv1d_like", "is_conv1d"]


def is_conv1d(module: nn.Module) -> bool:
    """Tell whether `module` is exactly transformers' Conv1D; transformers is not imported to find out."""
    loaded = sys.modules.get("transformers.pytorch_utils")
    return loaded is not None and type(module) is loaded.Conv1D


def conv1d_like(in_features: int, out_features: int) -> nn.Module:
    """Return transformers' Conv1D of these sizes, its parameters on the meta device."""
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):
        return cast(nn.Module, Conv1D(out_features, in_features))  # type: ignore[no-untyped-call]
