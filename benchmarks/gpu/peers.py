"""What others offer for the same weights, through torch."""

from __future__ import annotations

from typing import Any

import torch
from place import Call
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["attention_backends", "block_sparse_rows", "scaled_fp8", "semi_structured"]


def semi_structured(weight: Tensor, x: Tensor) -> Call:
    """cuSPARSELt by torch's semi-structured tensors, with the algorithm that its search finds for this product."""
    from torch.sparse import SparseSemiStructuredTensorCUSPARSELT as CuSparseLt

    packed = torch._cslt_compress(weight)
    best = torch._cslt_sparse_mm_search(packed, x.t())
    sparse = CuSparseLt.from_dense(weight, alg_id=int(best))
    return lambda: F.linear(x, sparse)


def scaled_fp8(weight: Tensor, x: Tensor) -> Call:
    """torch's dense fp8 product alone: x was quantised by token before, and the weight by row."""

    def quantised(matrix: Tensor) -> tuple[Tensor, Tensor]:
        scale = matrix.abs().amax(1, keepdim=True).float() / 448
        return (matrix / scale).to(torch.float8_e4m3fn), scale

    (q, x_scales), (values, scales) = quantised(x), quantised(weight)
    return lambda: torch._scaled_mm(q, values.t(), x_scales, scales.t(), out_dtype=x.dtype)


def block_sparse_rows(weight: Tensor, x: Tensor, block: int) -> Call:
    """torch's BSR layer, which runs a Triton kernel."""
    sparse = weight.to_sparse_bsr((block, block))
    return lambda: F.linear(x, sparse)


def attention_backends(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> dict[str, Call]:
    """SDPA by each of its fused back ends."""

    def call(backend: SDPBackend) -> Call:
        def run() -> Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, **options)

        return run

    backends = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)
    return {f"SDPA {backend.name.split('_')[0].lower()}": call(backend) for backend in backends}
