"""Operators `torch.ops.sparsecore.*`: schemas, fakes and gradients; importing this package registers them.

They take tensors and numbers only, run under torch.compile(fullgraph=True) and never hold a dense copy of a weight.
Under autocast they do not cast: only the resident tensor knows its dtype, so `PackedWeight.linear` casts the input.
"""

from __future__ import annotations

from sparsecore.ops.attention import bitplane_attention
from sparsecore.ops.block_mask import BlockMask
from sparsecore.ops.block_sparse_attention import block_sparse_attention
from sparsecore.ops.decode_attention import Decoded, decode_attention, kv_append_, kv_compact_, merge_attention
from sparsecore.ops.linear import (
    bitmask_linear,
    block_linear,
    nm_linear,
    packed_grad_input,
    packed_linear,
    packed_to_dense,
)
from sparsecore.ops.rows import gather_rows, scatter_rows_
from sparsecore.ops.scored_attention import SCORE_BITS, Scored, scored_attention
from sparsecore.ops.select import ragged_topk
from sparsecore.ops.topk import topk_select, topk_threshold

__all__ = [
    "BlockMask",
    "Decoded",
    "SCORE_BITS",
    "Scored",
    "bitmask_linear",
    "bitplane_attention",
    "block_linear",
    "block_sparse_attention",
    "decode_attention",
    "gather_rows",
    "kv_append_",
    "kv_compact_",
    "merge_attention",
    "nm_linear",
    "packed_grad_input",
    "packed_linear",
    "packed_to_dense",
    "ragged_topk",
    "scatter_rows_",
    "scored_attention",
    "topk_select",
    "topk_threshold",
]
