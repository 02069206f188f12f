"""Names of tensors: the module in front, the tensor behind."""

from __future__ import annotations

__all__ = ["join"]


def join(prefix: str, name: str) -> str:
    """Name of a tensor of the module at `prefix`; the model itself has the prefix ""."""
    return f"{prefix}.{name}" if prefix else name
