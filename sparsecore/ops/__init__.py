"""Operators `torch.ops.sparsecore.*`: schemas, fakes and gradients; importing this package registers them.

They take tensors and numbers only, run under torch.compile(fullgraph=True) and never hold a dense copy of a weight.
Under autocast they do not cast: only the resident tensor knows its dtype, so `PackedWeight.linear` casts the input.
"""

from __future__ import annotations

from sparsecore.ops.attention import bitplane_attention
from sparsecore.ops.linear import (
    bitmask_linear,
    block_linear,
    nm_linear,
    packed_grad_input,
    packed_linear,
    packed_to_dense,
)
from sparsecore.ops.topk import topk_select, topk_threshold

__all__ = [
    "bitmask_linear",
    "bitplane_attention",
    "block_linear",
    "nm_linear",
    "packed_grad_input",
    "packed_linear",
    "packed_to_dense",
    "topk_select",
    "topk_threshold",
]
