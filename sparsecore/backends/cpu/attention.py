"""Attention on bit planes on the compiled kernels; the meaning is in `reference.attention`."""

from __future__ import annotations

from sparsecore.backends.reference.attention import bitplane_attention

__all__ = ["bitplane_attention"]
