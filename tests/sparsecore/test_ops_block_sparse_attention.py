from __future__ import annotations

import pytest
import torch
from weights import generator

from sparsecore.errors import DtypeError, IndexTableError, InvalidValueError, ShapeError, UnsupportedError
from sparsecore.ops import BlockMask, block_sparse_attention, scored_attention


def tensors(batch, heads, queries, keys, width, rng, dtype=torch.float32):
    sizes = ((heads, queries), (heads // 2, keys), (heads // 2, keys))
    return tuple(torch.randn(batch, count, tokens, width, generator=rng).to(dtype) for count, tokens in sizes)


def random_blocks(batch, heads, queries, keys, block_size, rng):
    return torch.rand(batch, heads, -(-queries // block_size[0]), -(-keys // block_size[1]), generator=rng) < 0.5


def dense(blocks, queries, keys, block_size):
    return blocks[:, :, torch.arange(queries) // block_size[0]][..., torch.arange(keys) // block_size[1]]


@pytest.mark.parametrize("block_size", [(64, 64), (64, 128), (128, 64), (128, 128)])
@pytest.mark.parametrize("shared", [(2, 4), (1, 4), (2, 1), (1, 1)])
def test_equals_a_mask(block_size, shared, dtype, seed):
    rng = generator(seed)
    queries, keys = 150, 130
    q, k, v = tensors(2, 4, queries, keys, 16, rng, dtype)
    blocks = random_blocks(*shared, queries, keys, block_size, rng)
    mask = BlockMask.from_dense(blocks, queries, keys, block_size)
    again = BlockMask.from_lists(mask.offsets, mask.indices, queries, keys, block_size)
    result = block_sparse_attention(q, k, v, again, causal=True, token_scores=True, head_scores=True)
    expected = scored_attention(q, k, v, dense(blocks, queries, keys, block_size), causal=True)
    for a, b in zip(result, expected, strict=True):
        assert torch.equal(a, b)
    assert block_sparse_attention(q, k, v, mask).token_scores.shape == (2, 4, 0)


@pytest.mark.parametrize(("queries", "keys"), [(0, 70), (70, 0), (1, 1), (64, 128)])
def test_sizes_at_the_edge(queries, keys, seed):
    rng = generator(seed)
    q, k, v = tensors(1, 2, queries, keys, 8, rng)
    blocks = random_blocks(1, 2, queries, keys, (64, 64), rng)
    mask = BlockMask.from_dense(blocks, queries, keys, (64, 64))
    BlockMask.from_lists(mask.offsets, mask.indices, queries, keys, (64, 64))
    out = block_sparse_attention(q, k, v, mask).out
    assert torch.equal(out, scored_attention(q, k, v, dense(blocks, queries, keys, (64, 64))).out)


def test_gradients(seed):
    rng = generator(seed)
    q, k, v = (t.double().requires_grad_() for t in tensors(1, 2, 70, 66, 3, rng))
    blocks = random_blocks(1, 2, 70, 66, (64, 64), rng)
    blocks[..., 0] = True
    mask = BlockMask.from_dense(blocks, 70, 66, (64, 64))
    towards = torch.randn(1, 2, 70, 3, generator=rng, dtype=torch.float64)
    mine = torch.autograd.grad((block_sparse_attention(q, k, v, mask).out * towards).sum(), (q, k, v))
    theirs = scored_attention(q, k, v, dense(blocks, 70, 66, (64, 64))).out
    for a, b in zip(mine, torch.autograd.grad((theirs * towards).sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(a, b)


def test_compiles_and_passes_opcheck(seed):
    rng = generator(seed)
    q, k, v = (t.requires_grad_() for t in tensors(1, 2, 70, 130, 8, rng))
    mask = BlockMask.from_dense(random_blocks(1, 1, 70, 130, (64, 64), rng), 70, 130, (64, 64))
    operator = torch.ops.sparsecore.block_sparse_attention.default
    torch.library.opcheck(operator, (q, k, v, mask.offsets, mask.indices, 64, 64, True, 0.3, True, True))
    torch.compiler.reset()
    compiled = torch.compile(
        lambda q, k, v: block_sparse_attention(q, k, v, mask).out + 1, fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(q, k, v), block_sparse_attention(q, k, v, mask).out + 1)


def test_masks_are_checked():
    blocks = torch.ones(1, 1, 2, 3, dtype=torch.bool)
    with pytest.raises(ShapeError, match="blocks are"):
        BlockMask.from_dense(blocks, 64, 192, (64, 64))
    with pytest.raises(DtypeError):
        BlockMask.from_dense(blocks.int(), 128, 192, (64, 64))
    with pytest.raises(InvalidValueError, match="block_size"):
        BlockMask.from_dense(blocks, 128, 192, (32, 64))
    mask = BlockMask.from_dense(blocks, 128, 192, (64, 64))
    assert mask.offsets.tolist() == [[[0, 3, 6]]]
    assert mask.indices.tolist() == [0, 1, 2, 0, 1, 2]

    def lists(offsets, indices, keys=192):
        BlockMask.from_lists(torch.tensor(offsets), torch.tensor(indices, dtype=torch.int32), 128, keys, (64, 64))

    lists([[[0, 3, 6]]], [0, 1, 2, 0, 1, 2])
    for offsets, indices in (
        ([[[0, 3, 5]]], [0, 1, 2, 0, 1, 2]),
        ([[[1, 3, 6]]], [0, 1, 2, 0, 1, 2]),
        ([[[0, 7, 6]]], [0, 1, 2, 0, 1, 2]),
        ([[[0, 3, 6]]], [0, 1, 3, 0, 1, 2]),
        ([[[0, 3, 6]]], [0, 1, -1, 0, 1, 2]),
        ([[[0, 3, 6]]], [0, 2, 1, 0, 1, 2]),
        ([[[0, 3, 6]]], [0, 1, 2, 0, 0, 2]),
    ):
        with pytest.raises(IndexTableError):
            lists(offsets, indices)
    with pytest.raises(ShapeError):
        lists([[[0, 6]]], [0, 1, 2, 0, 1, 2])
    with pytest.raises(DtypeError):
        BlockMask.from_lists(mask.offsets.int(), mask.indices, 128, 192, (64, 64))


def test_calls_are_checked(seed):
    q, k, v = tensors(1, 2, 70, 66, 8, generator(seed))
    mask = BlockMask.from_dense(torch.ones(1, 1, 2, 2, dtype=torch.bool), 70, 66, (64, 64))
    with pytest.raises(ShapeError, match="a mask of"):
        block_sparse_attention(q[:, :, :69], k, v, mask)
    with pytest.raises(ShapeError, match="lists are"):
        torch.ops.sparsecore.block_sparse_attention(
            q, k, v, mask.offsets[..., :2], mask.indices, 64, 64, False, 1.0, False, False
        )
    with pytest.raises(InvalidValueError, match="block_size"):
        torch.ops.sparsecore.block_sparse_attention(
            q, k, v, mask.offsets, mask.indices, 32, 64, False, 1.0, False, False
        )
    with pytest.raises(UnsupportedError, match=r"mask is on meta and q on cpu"):
        block_sparse_attention(q, k, v, mask.to("meta"))
    with pytest.raises(ShapeError, match="q, k, v"):
        block_sparse_attention(q, k, v[:, :, :60], mask)
