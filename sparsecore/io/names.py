"""Names of tensors: the module in front, the tensor behind."""

from __future__ import annotations

import torch

__all__ = ["join", "type_name"]


def join(prefix: str, name: str) -> str:
    """Name of a tensor of the module at `prefix`; the model itself has the prefix ""."""
    return f"{prefix}.{name}" if prefix else name


def type_name(dtype: torch.dtype) -> str:
    """torch's own name of an element type: "bfloat16"."""
    return str(dtype).removeprefix("torch.")
