"""Scored and block-sparse attention on the device, through the back end's own functions, against float64."""

from __future__ import annotations

import pytest
import torch
from test_graphs import holds_in_a_graph
from weights import generator

from sparsecore.backends.cuda import block_sparse_attention as cuda_blocks
from sparsecore.backends.cuda import scored_attention as cuda
from sparsecore.backends.reference import block_sparse_attention as reference_blocks
from sparsecore.backends.reference import scored_attention as reference
from sparsecore.ops import BlockMask

NAN, INFINITY = float("nan"), float("inf")
HALVES = (torch.bfloat16, torch.float16)
ERROR = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 1.6e-2}


def tensors(batch, heads, groups, queries, keys, width, rng, dtype, values=None):
    """Q, k and v with tokens before heads in memory, as projections leave them."""
    shapes = (
        (heads * groups, queries, width),
        (heads, keys, width),
        (heads, keys, width if values is None else values),
    )
    return tuple(
        torch.randn(batch, tokens, count, wide, generator=rng).to(dtype).transpose(1, 2)
        for count, tokens, wide in shapes
    )


def check(device, q, k, v, mask=None, counted=None, causal=False, scale=0.3, keep=1.0, scores=(True, True)):
    """Run the device's function and compare every output with the reference in float64."""
    on_device = [t if t is None else t.to(device) for t in (q, k, v, mask, counted)]
    got = [t.cpu() for t in cuda.scored_attention(*on_device, causal, scale, keep, *scores)]
    wide = reference.scored_attention(
        q.double(), k.double(), v.double(), mask, counted, causal, scale, keep, True, True
    )
    compare(got, wide, q, v, counted, scores)
    return got


def compare(got, wide, q, v, counted, scores):
    out, lse, tokens, sizes, used = got
    assert (out.dtype, out.shape) == (q.dtype, wide[0].shape)
    size = 1 + v.double().nan_to_num(0, 0, 0).abs().max() if v.numel() else 1
    torch.testing.assert_close(out.double(), wide[0], atol=float(ERROR[q.dtype] * size), rtol=0)
    torch.testing.assert_close(lse.double(), wide[1].double(), atol=2e-5, rtol=2e-5)
    counts = q.shape[2] if counted is None else counted.sum(1)[:, None, None]
    if scores[0]:
        assert ((tokens - wide[2]).abs() <= 1 + counts + wide[2] * 3e-5).all()
    stored = out if counted is None else torch.where(counted[:, None, :, None], out, 0)
    if scores[1]:
        assert torch.equal(sizes, torch.round(stored.double().abs() * 2**20).long().sum((2, 3)))
    assert torch.equal(used, wide[4])


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    "shape", [(2, 1, 2, 17, 70, 32, 20), (1, 2, 1, 65, 63, 64, 64), (1, 1, 2, 33, 65, 128, 128)], ids=str
)
def test_tensor_cores(shape, dtype, device, seed):
    rng = generator(seed)
    batch, heads, groups, queries, keys, width, values = shape
    q, k, v = tensors(batch, heads, groups, queries, keys, width, rng, dtype, values)
    counted = torch.rand(batch, queries, generator=rng) < 0.7
    check(device, q, k, v, causal=True, scores=(False, True))
    per_key = torch.rand(batch, 1, 1, keys, generator=rng) < 0.7
    check(device, q, k, v, mask=per_key, counted=counted)
    pairs = torch.rand(1, heads * groups, queries, keys, generator=rng) < 0.5
    check(device, q, k, v, mask=pairs, causal=True, scale=-0.2)


def test_any_strides_and_widths(device, seed):
    rng = generator(seed)
    for width, dtype in ((1, torch.float16), (37, torch.bfloat16), (130, torch.bfloat16)):
        q, k, v = tensors(1, 1, 2, 9, 20, width, rng, dtype)
        q, k = q.contiguous(), k.transpose(2, 3).contiguous().transpose(2, 3)
        check(device, q, k, v)


@pytest.mark.parametrize(
    "shape", [(0, 1, 1, 3, 4, 8), (2, 0, 1, 3, 4, 8), (1, 1, 2, 0, 4, 8), (1, 1, 2, 3, 0, 8), (1, 1, 1, 3, 4, 0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_empty(shape, dtype, device):
    q, k, v = tensors(*shape, generator(0), dtype, values=5)
    for keep in (1.0, 0.5):
        check(device, q, k, v, keep=keep, mask=torch.ones(1, 1, 1, k.shape[2], dtype=torch.bool))
    check(device, q, k, v[..., :0])


def test_fp32(device, seed):
    rng = generator(seed)
    q, k, v = tensors(1, 1, 2, 19, 70, 33, rng, torch.float32, 40)
    check(device, q, k, v, mask=torch.rand(1, 1, 19, 70, generator=rng) < 0.6, causal=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_of_the_largest_probabilities(dtype, device, seed):
    """Scores are a permutation of multiples of 1/16 in every row, so that no two probabilities are near each other."""
    rng = generator(seed)
    q, k, v = (
        torch.ones(1, 2, 11, 1),
        torch.randperm(90, generator=rng)[:70] / 16,
        torch.randn(1, 1, 70, 9, generator=rng),
    )
    mask = torch.rand(1, 1, 11, 70, generator=rng) < 0.8
    counted = torch.rand(1, 11, generator=rng) < 0.5
    for keep in (0.3, 0.01, 0.99):
        check(device, q.to(dtype), k.view(1, 1, 70, 1).to(dtype), v.to(dtype), mask, counted, True, 1.0, keep)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_odd_values_meet_only_weights_above_zero(dtype, device, seed):
    q, k, v = tensors(1, 2, 1, 20, 70, 16, generator(seed), dtype)
    mask = torch.ones(1, 1, 1, 70, dtype=torch.bool)
    mask[..., 13] = mask[..., 66:] = False
    clean = check(device, q, k, v, mask)
    k[:, :, 13], v[:, :, 13], v[:, :, 69] = NAN, INFINITY, NAN
    for a, b in zip(clean[1:3], check(device, q, k, v, mask)[1:3], strict=True):
        assert torch.equal(a, b)
    v[:, :, 5, 3], q[0, 1, 7, 0] = INFINITY, NAN
    out, lse, tokens, _, _ = (
        t.cpu()
        for t in cuda.scored_attention(*(t.to(device) for t in (q, k, v, mask)), None, False, 0.3, 1.0, True, True)
    )
    assert (out[0, 0, :, 3] == INFINITY).all()
    assert out[0, 0, :, :3].isfinite().all()
    assert out[0, 1, 7].isnan().all()
    assert lse[0, 1, 7].isnan()
    assert out[0, 1, :7, :3].isfinite().all()
    assert abs(int(tokens[0, 1].sum()) - (19 << 20)) < 19 * 70


def test_scores_of_equal_keys_are_exact(device):
    q, k = torch.zeros(1, 2, 33, 8, dtype=torch.bfloat16), torch.zeros(1, 2, 64, 8, dtype=torch.bfloat16)
    v = torch.ones(1, 2, 64, 4, dtype=torch.bfloat16)
    _, _, tokens, sizes, used = cuda.scored_attention(
        *(t.to(device) for t in (q, k, v)), None, None, False, 0.0, 1.0, True, True
    )
    assert (tokens == 33 * (1 << 14)).all()
    assert (sizes == 33 * 4 << 20).all()
    assert (used == 64).all()


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("block_size", [(64, 128), (128, 64)], ids=str)
def test_block_lists(dtype, block_size, device, seed):
    rng = generator(seed)
    queries, keys = 130 if dtype == torch.bfloat16 else 70, 200
    q, k, v = tensors(2, 1, 2, queries, keys, 24, rng, dtype)
    shape = (2, 1, -(-queries // block_size[0]), -(-keys // block_size[1]))
    blocks = torch.rand(shape, generator=rng) < 0.6
    mask = BlockMask.from_dense(blocks, queries, keys, block_size)
    arguments = (mask.offsets, mask.indices, *block_size, True, 0.25)
    moved = [t.to(device) if isinstance(t, torch.Tensor) else t for t in (q, k, v, *arguments)]
    got = [t.cpu() for t in cuda_blocks.block_sparse_attention(*moved, True, True)]
    wide = reference_blocks.block_sparse_attention(*(t.double() for t in (q, k, v)), *arguments, True, True)
    compare(got, wide, q, v, None, (True, True))


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_calls_hold_in_a_graph(keep, device, seed):
    first, second = (torch.randn(1, 2, 30, 16, generator=generator(seed + i)).bfloat16().to(device) for i in range(2))
    mask = torch.ones(1, 1, 1, 30, dtype=torch.bool, device=device)
    holds_in_a_graph(
        device, lambda x: cuda.scored_attention(x, x, x, mask, None, True, 0.3, keep, True, True)[0], first, second
    )
