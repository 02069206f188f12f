"""What others offer for the same weights, through torch."""

from __future__ import annotations

from typing import Any

import torch
from place import Call
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT

__all__ = [
    "attention_backends",
    "block_sparse_rows",
    "cusparselt_tensor",
    "padded_rows",
    "scaled_fp8",
    "semi_structured",
]


def semi_structured(weight: Tensor, x: Tensor, fused: bool) -> Call:
    """cuSPARSELt by torch's semi-structured tensors, with the algorithm that its search finds for this product.

    fused: whether cuSPARSELt writes the result by rows; otherwise by columns, as torch's layer asked up to 2.11.
    """
    packed = torch._cslt_compress(weight)
    best = torch._cslt_sparse_mm_search(packed, padded_rows(x).t(), transpose_result=fused)
    sparse = cusparselt_tensor(weight.shape, packed, fused, int(best))
    return lambda: F.linear(x, sparse)


def cusparselt_tensor(shape: torch.Size, packed: Tensor, fused: bool, algorithm: int) -> Tensor:
    """The tensor of torch's layer; its `from_dense` takes no algorithm in torch 2.11."""
    return SparseSemiStructuredTensorCUSPARSELT(
        shape=shape,
        packed=packed,
        meta=None,
        packed_t=None,
        meta_t=None,
        compressed_swizzled_bitmask=None,
        fuse_transpose_cusparselt=fused,
        alg_id_cusparselt=algorithm,
    )


def padded_rows(x: Tensor) -> Tensor:
    """x with as many rows as cuSPARSELt asks for: torch's layer pads it so in every call."""
    least = SparseSemiStructuredTensorCUSPARSELT._DTYPE_SHAPE_CONSTRAINTS[x.dtype].dense_min_rows
    return F.pad(x, (0, 0, 0, -len(x) % least))


def scaled_fp8(weight: Tensor, x: Tensor, fast: bool) -> Call:
    """torch's dense fp8 product alone: x was quantised by token before, and the weight by row.

    fast: sums stay in the tensor cores to the end, where they have fewer bits than fp32.
    """

    def quantised(matrix: Tensor) -> tuple[Tensor, Tensor]:
        scale = matrix.abs().amax(1, keepdim=True).float() / 448
        return (matrix / scale).to(torch.float8_e4m3fn), scale

    (q, x_scales), (values, scales) = quantised(x), quantised(weight)
    return lambda: torch._scaled_mm(q, values.t(), x_scales, scales.t(), out_dtype=x.dtype, use_fast_accum=fast)


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
