"""transformers' Conv1D (GPT-2 and relatives): a linear layer whose weight is stored [in_features, out_features]."""

from __future__ import annotations

import sys

from torch import nn

__all__ = ["is_conv1d"]


def is_conv1d(module: nn.Module) -> bool:
    """Tell whether `module` is exactly transformers' Conv1D; transformers is not imported to find out."""
    loaded = sys.modules.get("transformers.pytorch_utils")
    return loaded is not None and type(module) is loaded.Conv1D
