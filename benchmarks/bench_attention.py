"""Bit-plane and scored attention against dense attention: SDPA, and torch where the importance sums are wanted too."""

from __future__ import annotations

import pytest
import torch
from conftest import Compare
from torch.nn.functional import scaled_dot_product_attention

from sparsecore import ops

SHAPES = [(1, 12, 32, 32), (1, 12, 256, 32), (8, 12, 128, 64), (1, 12, 384, 64), (1, 16, 512, 128)]


def tensors(shape: tuple[int, int, int, int]) -> list[torch.Tensor]:
    """Return q, k and v of shape [batch, heads, tokens, head_dim]."""
    return [torch.randn(shape) for _ in range(3)]


def with_sums(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return dense attention and every key's sum of probabilities."""
    p = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)
    return p @ v, p.sum(2)


@pytest.mark.parametrize("threshold", [0.0, 2.0], ids=["high_bits_only", "all_low_bits"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_attention_against_sdpa(compare: Compare, shape: tuple[int, int, int, int], threshold: float) -> None:
    q, k, v = tensors(shape)
    scale = shape[-1] ** -0.5
    compare(
        lambda: scaled_dot_product_attention(q, k, v),
        lambda: ops.bitplane_attention(q, k, v, None, scale, 8, 4, threshold),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_attention_against_torch_with_sums(compare: Compare, shape: tuple[int, int, int, int]) -> None:
    q, k, v = tensors(shape)
    scale = shape[-1] ** -0.5
    compare(lambda: with_sums(q, k, v), lambda: ops.bitplane_attention(q, k, v, None, scale, 8, 4, 0.1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_scored_attention_against_sdpa(compare: Compare, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    q, k, v = (tensor.to(dtype) for tensor in tensors(shape))
    compare(lambda: scaled_dot_product_attention(q, k, v), lambda: ops.scored_attention(q, k, v))
