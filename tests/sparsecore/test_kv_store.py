from __future__ import annotations

import pytest
import torch
from weights import generator

from sparsecore.backends.reference.bitplane import KEY_BITS
from sparsecore.cascade import KVFormat, KVStore, decode_attention
from sparsecore.errors import DtypeError, IndexTableError, InvalidValueError, ShapeError

FORMATS = [
    KVFormat(dtype=torch.float32),
    KVFormat(dtype=torch.bfloat16),
    KVFormat(dtype=torch.float16),
    *(KVFormat(bits, 8) for bits in KEY_BITS),
    KVFormat(8, None, torch.float32),
    KVFormat(None, 5, torch.float32),
]


def tokens(batch, heads, count, dim, rng, dtype=torch.float32):
    return torch.randn(batch, heads, count, dim, generator=rng).to(dtype)


def rounded(x, bits):
    """Round each row to `bits` bits, from the definition; the division is fp32."""
    limit = 2 ** (bits - 1) - 1
    scale = x.float().abs().amax(-1, keepdim=True) / limit
    scale[scale == 0] = 1
    return torch.round(x.float() / scale).clamp(-limit, limit) * scale


def expected(x, bits, dtype):
    return x.to(dtype) if bits is None else rounded(x, bits)


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_holds_what_was_appended(format, isa, seed):  # noqa: A002
    rng = generator(seed)
    batch, heads, dim, value_dim = 2, 3, 21, 10
    store = KVStore(batch, heads, dim, value_dim, format=format, capacity=3)
    k, v = tokens(batch, heads, 200, dim, rng), tokens(batch, heads, 200, value_dim, rng)
    k[0, 1, 7] = 0
    for first, last in ((0, 3), (3, 3), (3, 4), (4, 70), (70, 200)):
        store.append(k[:, :, first:last], v[:, :, first:last])
    assert store.lengths.tolist() == [200, 200] and store.width == 200 <= store.capacity
    key_bits = None if format.key_bits is None else format.key_bits + 4
    assert torch.equal(store.k(), expected(k, key_bits, format.dtype))
    assert torch.equal(store.v(), expected(v, format.value_bits, format.dtype))
    assert bool(store.seen().all())
    assert store.bytes() == batch * heads * store.capacity * format.token_bytes(dim, value_dim)


def test_strided_and_half_precision_tokens(isa, seed):
    rng = generator(seed)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        x = torch.randn(2, 9, 3, 16, generator=rng).to(dtype)
        store = KVStore(2, 3, 16, format=KVFormat(8, 8))
        store.append(x.transpose(1, 2), x.transpose(1, 2) * 2)
        assert torch.equal(store.k(), rounded(x.transpose(1, 2), 12))
        assert torch.equal(store.v(), rounded(x.transpose(1, 2) * 2, 8))


def test_tokens_that_are_not_finite_have_no_scale(isa):
    k = torch.ones(1, 1, 3, 8)
    k[0, 0, 1, 2], k[0, 0, 2, 0] = float("inf"), float("nan")
    store = KVStore(1, 1, 8, format=KVFormat(8, 8))
    store.append(k, k)
    assert store.k().isnan().any(-1).flatten().tolist() == [False, True, True]
    assert store.v().isnan().any(-1).flatten().tolist() == [False, True, True]


def test_padding_on_either_side(isa, seed):
    rng = generator(seed)
    k = tokens(3, 2, 12, 8, rng)
    left, right = KVStore(3, 2, 8, capacity=4), KVStore(3, 2, 8, capacity=4)
    left.append(k, k, starts=torch.tensor([0, 5, 12]))
    right.append(k, k, counts=torch.tensor([12, 7, 0]))
    assert left.lengths.tolist() == right.lengths.tolist() == [12, 7, 0]
    more = tokens(3, 2, 1, 8, rng)
    left.append(more, more)
    right.append(more, more)
    assert (left.width, right.width) == (13, 13)
    assert left.seen().sum(-1).tolist() == right.seen().sum(-1).tolist() == [13, 8, 1]
    assert torch.equal(left.k()[1, :, 5:12], k[1, :, 5:].bfloat16())
    assert torch.equal(right.k()[1, :, :7], k[1, :, :7].bfloat16())
    assert torch.equal(right.k()[1, :, 7:8], more[1].bfloat16())
    assert torch.equal(right.k()[2, :, :1], more[2].bfloat16())


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_evict_removes_rows_and_memory(format, isa, seed):  # noqa: A002
    rng = generator(seed)
    k, v = tokens(2, 2, 500, 33, rng), tokens(2, 2, 500, 33, rng)
    store = KVStore(2, 2, 33, format=format)
    store.append(k, v, starts=torch.tensor([0, 3]))
    before, held = (store.k().clone(), store.v().clone()), store.bytes()
    keep = torch.stack([torch.randperm(490, generator=rng)[:130].sort().values + 5 for _ in range(2)])
    counts = torch.tensor([130, 71])
    store.evict(keep, counts)
    assert store.lengths.tolist() == [130, 71] and store.starts.tolist() == [0, 0] and store.width == 130
    assert store.bytes() < held / 2
    for sequence, count in enumerate(counts.tolist()):
        for now, then in zip((store.k(), store.v()), before, strict=True):
            assert torch.equal(now[sequence, :, :count], then[sequence][:, keep[sequence, :count]])
    store.append(k[:, :, :1], v[:, :, :1])
    assert store.lengths.tolist() == [131, 72]
    store.evict(torch.empty(2, 0, dtype=torch.int64))
    assert store.width == 0 and store.lengths.tolist() == [0, 0]


def test_reorder_select_and_repeat(seed):
    rng = generator(seed)
    k = tokens(3, 2, 9, 8, rng)
    store = KVStore(3, 2, 8, format=KVFormat(8, 8))
    store.append(k, k, counts=torch.tensor([9, 4, 6]))
    before = store.k()
    store.reorder(torch.tensor([2, 0]))
    assert store.batch == 2 and store.lengths.tolist() == [6, 9]
    assert torch.equal(store.k()[0, :, :6], before[2, :, :6])
    assert torch.equal(store.k()[1], before[0])
    store.repeat(3)
    assert store.lengths.tolist() == [6, 6, 6, 9, 9, 9]
    assert torch.equal(store.k()[4], before[0])


def test_a_pruned_store_attends_as_a_dense_one_with_a_mask(isa, seed):
    rng = generator(seed)
    k, v = (tokens(2, 2, 60, 16, rng) for _ in range(2))
    q = torch.randn(2, 4, 1, 16, generator=rng)
    store = KVStore(2, 2, 16, format=KVFormat(dtype=torch.float32))
    store.append(k, v)
    keep = torch.stack([torch.randperm(60, generator=rng)[:20].sort().values for _ in range(2)])
    counts = torch.tensor([20, 11])
    chosen = decode_attention(store, q, rows=keep, row_counts=counts)
    store.evict(keep, counts)
    removed = decode_attention(store, q)
    assert torch.equal(chosen.out, removed.out)
    assert torch.equal(chosen.token_scores, removed.token_scores)
    mask = torch.zeros(2, 1, 1, 60, dtype=torch.bool)
    for sequence, count in enumerate(counts.tolist()):
        mask[sequence, ..., keep[sequence, :count]] = True
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
    torch.testing.assert_close(removed.out, dense, atol=1e-5, rtol=1e-5)


def test_bad_input_is_named():
    with pytest.raises(InvalidValueError, match="key_bits is 5"):
        KVFormat(5)
    with pytest.raises(InvalidValueError, match="value_bits is 3"):
        KVFormat(8, 3)
    with pytest.raises(DtypeError, match="int8"):
        KVFormat(dtype=torch.int8)
    with pytest.raises(InvalidValueError, match="head_dim is 0"):
        KVStore(1, 1, 0)
    store = KVStore(2, 2, 8)
    x = torch.randn(2, 2, 3, 8)
    with pytest.raises(ShapeError, match="new_keys"):
        store.append(x[:1], x)
    with pytest.raises(ShapeError, match="new_values"):
        store.append(x, x[..., :7])
    with pytest.raises(ShapeError, match="k is"):
        store.append(x[0], x[0])
    with pytest.raises(DtypeError, match="new_keys"):
        store.append(x.int(), x)
    with pytest.raises(InvalidValueError, match="counts"):
        store.append(x, x, counts=torch.tensor([4, 3]))
    store.append(x, x)
    with pytest.raises(InvalidValueError, match="not the first"):
        store.append(x, x, starts=torch.tensor([1, 0]))
    with pytest.raises(InvalidValueError, match="no slot"):
        store.evict(torch.tensor([[0, 3], [0, 1]]))
    with pytest.raises(IndexTableError, match="ascending"):
        store.evict(torch.tensor([[1, 0], [0, 1]]))
    with pytest.raises(ShapeError, match="keep"):
        store.evict(torch.tensor([0, 1]))
    assert store.lengths.tolist() == [3, 3]
