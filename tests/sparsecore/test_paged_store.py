"""Stores in pages hold what plain stores hold, and attend to it alike."""

from __future__ import annotations

import pytest
import torch
from weights import generator

from sparsecore import ops
from sparsecore.cascade import KVFormat, KVStore, PagedKVStore, decode_attention
from sparsecore.errors import DtypeError, IndexTableError, InvalidValueError, ShapeError

FORMATS = [KVFormat(dtype=torch.float32), KVFormat(dtype=torch.bfloat16), KVFormat(4, 8), KVFormat(8, 8), KVFormat(12)]


def _random(*shape, rng):
    return torch.randn(*shape, generator=rng)


def _both(batch, heads, dim, value_dim, format, rng):  # noqa: A002
    """A plain and a paged store with the same ragged tokens, written in several steps."""
    plain = KVStore(batch, heads, dim, value_dim, format=format)
    paged = PagedKVStore(batch, heads, dim, value_dim, format=format, pool=64, page_size=16)
    for tokens in (0, 1, 40, 1, 13):
        k, v = _random(batch, heads, tokens, dim, rng=rng), _random(batch, heads, tokens, value_dim, rng=rng)
        counts = torch.randint(0, tokens + 1, (batch,), generator=rng)
        plain.append(k, v, counts=counts)
        paged.append(k, v, counts=counts.tolist())
    return plain, paged


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_attends_as_a_plain_store(format, isa, seed):  # noqa: A002
    rng = generator(seed)
    plain, paged = _both(3, 2, 32, 24, format, rng)
    dtype = torch.float32 if format.key_bits else format.dtype
    q = _random(3, 6, 1, 32, rng=rng).to(dtype)
    assert torch.equal(paged.lengths, plain.lengths) and paged.width == plain.width
    seen = paged.seen()[:, None, :, None]
    assert torch.equal(paged.k() * seen, plain.k() * seen) and torch.equal(paged.v() * seen, plain.v() * seen)
    rows = torch.sort(torch.rand(3, plain.width, generator=rng).masked_fill(~plain.seen(), 2), stable=True).indices
    few = torch.minimum(plain.lengths, torch.tensor(7))
    chosen = torch.where(torch.arange(7) < few[:, None], rows[:, :7], plain.width).sort().values
    for options in ({}, {"rows": chosen, "row_counts": few}, {"value_keep": 0.3, "threshold": 0.5}):
        found = decode_attention(paged, q, **options)
        for mine, theirs in zip(found, decode_attention(plain, q, **options), strict=True):
            assert torch.equal(mine, theirs)


def test_compiles_and_passes_opcheck(seed):
    rng = generator(seed)
    plain, paged = _both(2, 1, 32, 32, KVFormat(8, 8), rng)
    q = _random(2, 2, 1, 32, rng=rng)
    arguments = (q, list(paged.keys), list(paged.values), paged.starts, paged.lengths, paged.width, None, None, None)
    rule = (8, 0.2, 0.1, 1.0, 0.0, False, True, True)
    torch.library.opcheck(ops.decode_attention.__globals__["decode_operator"], (*arguments, *rule, paged.pages))
    compiled = torch.compile(lambda q: decode_attention(paged, q).out, fullgraph=True, backend="eager")
    assert torch.equal(compiled(q), decode_attention(plain, q).out)


def test_pages_come_back_and_are_given_again(seed):
    rng = generator(seed)
    store = PagedKVStore(2, 1, 8, pool=4, page_size=16, format=KVFormat(dtype=torch.float32))
    k = _random(2, 1, 32, 8, rng=rng)
    store.append(k, k)
    assert store.free == 0 and "4 of 4 pages" in repr(store)
    with pytest.raises(InvalidValueError, match="2 pages are needed, 0 are free"):
        store.append(k[:, :, :1], k[:, :, :1])
    assert store.lengths.tolist() == [32, 32]
    store.release(0)
    assert store.free == 2 and store.lengths.tolist() == [0, 32]
    store.append(k[:, :, :17], k[:, :, :17], counts=[0, 17])
    assert store.free == 0 and store.width == 49
    assert torch.equal(store.k()[1, 0], torch.cat([k[1, 0], k[1, 0, :17]]))
    store.release(1)
    store.reserve(32)
    assert store.width == 32 and store.free == 0
    store.append(k, -k)
    assert torch.equal(store.k(), k) and torch.equal(store.v(), -k)


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_evicts_as_a_plain_store(format, seed):  # noqa: A002
    rng = generator(seed)
    plain, paged = _both(3, 2, 32, 24, format, rng)
    most = int(plain.lengths.min())
    kept = [int(torch.randint(0, most + 1, (), generator=rng)) for _ in range(3)]
    order = torch.rand(3, plain.width, generator=rng).masked_fill(~plain.seen(), 2).argsort(dim=1)
    places = torch.arange(max(kept)) < torch.tensor(kept)[:, None]
    keep = torch.where(places, order[:, : max(kept)], plain.width).sort().values
    plain.evict(keep, torch.tensor(kept))
    paged.evict(keep, kept)
    assert torch.equal(paged.lengths, plain.lengths) and paged.width == plain.width
    assert paged.pool - paged.free == sum(-(-count // 16) for count in kept)
    k, v = _random(3, 2, 21, 32, rng=rng), _random(3, 2, 21, 24, rng=rng)
    for store in (plain, paged):
        store.append(k, v)
    seen = paged.seen()[:, None, :, None]
    assert torch.equal(paged.k() * seen, plain.k() * seen) and torch.equal(paged.v() * seen, plain.v() * seen)


def test_reorders_and_repeats_as_a_plain_store(seed):
    rng = generator(seed)
    for index in ([2, 0, 1], [1, 1, 0], [0], [2, 2, 2, 2], [0, 1, 2, 0]):
        plain, paged = _both(3, 2, 8, 8, KVFormat(8, 8), rng)
        plain.reorder(torch.tensor(index))
        paged.reorder(torch.tensor(index))
        for _ in range(2):  # copies are their own: what one gets, no other sees
            assert torch.equal(paged.lengths, plain.lengths) and paged.batch == len(index)
            seen = paged.seen()[:, None, :, None]
            assert torch.equal(paged.k() * seen, (plain.k() * plain.seen()[:, None, :, None])[:, :, : paged.width])
            assert torch.equal(paged.v() * seen, (plain.v() * plain.seen()[:, None, :, None])[:, :, : paged.width])
            k = _random(len(index), 2, 5, 8, rng=rng)
            plain.append(k, k)
            paged.append(k, k)
        held = paged.pages[paged.pages >= 0].tolist()
        assert len(set(held)) == len(held) == paged.pool - paged.free
    store = PagedKVStore(1, 1, 8, pool=3, page_size=16, format=KVFormat(dtype=torch.float32))
    store.append(_random(1, 1, 17, 8, rng=rng), _random(1, 1, 17, 8, rng=rng))
    with pytest.raises(InvalidValueError, match="2 pages are needed, 1 are free"):
        store.repeat(2)
    assert store.batch == 1 and store.free == 1
    store.reorder([0])
    assert store.free == 1


def test_refuses_rows_and_sequences_that_there_are_not(seed):
    rng = generator(seed)
    store = PagedKVStore(2, 1, 8, pool=4, page_size=16, format=KVFormat(dtype=torch.float32))
    k = _random(2, 1, 5, 8, rng=rng)
    store.append(k, k, counts=[5, 3])
    before = store.k().clone()
    for keep in ([[0, 1], [2, 3]], [[1, 1], [0, 1]], [[1, 0], [0, 1]], [[-1, 0], [0, 1]]):
        with pytest.raises(InvalidValueError, match="rows that are not such"):
            store.evict(torch.tensor(keep))
    for counts in ([2], [3, 0], [-1, 0]):
        with pytest.raises(InvalidValueError, match="counts is"):
            store.evict(torch.tensor([[0, 1], [0, 1]]), counts)
    with pytest.raises(ShapeError):
        store.evict(torch.tensor([[0, 1]]))
    with pytest.raises(DtypeError):
        store.evict(torch.tensor([[0, 1], [0, 1]]).int())
    for index in ([2], [-1, 0], []):
        with pytest.raises(InvalidValueError, match="index is"):
            store.reorder(index)
    assert torch.equal(store.k(), before) and store.lengths.tolist() == [5, 3]


def test_padding_behind_the_longest_sequence_is_left_out(seed):
    rng = generator(seed)
    store = PagedKVStore(2, 1, 8, pool=2, page_size=16, longest=16, format=KVFormat(dtype=torch.float32))
    k = _random(2, 1, 16, 8, rng=rng)
    store.append(k, k, counts=[15, 0])
    store.append(k, k, counts=[1, 16])
    assert store.lengths.tolist() == [16, 16]
    assert torch.equal(store.k()[0, 0], torch.cat([k[0, 0, :15], k[0, 0, :1]])) and torch.equal(store.k()[1], k[1])


def test_refuses_what_does_not_fit():
    for wrong in ({"pool": 0}, {"pool": 1, "page_size": 48}, {"pool": 1, "longest": 0}):
        with pytest.raises(InvalidValueError):
            PagedKVStore(1, 1, 8, **wrong)
    store = PagedKVStore(2, 1, 8, pool=4, page_size=16, longest=32, format=KVFormat(dtype=torch.float32))
    k = torch.randn(2, 1, 3, 8)
    for counts in ([4, 0], [1], [-1, 1]):
        with pytest.raises(InvalidValueError):
            store.append(k, k, counts=counts)
    with pytest.raises(ShapeError):
        store.append(k[:1], k[:1])
    with pytest.raises(InvalidValueError):
        store.append(torch.randn(2, 1, 33, 8), torch.randn(2, 1, 33, 8))
    with pytest.raises(InvalidValueError):
        store.release(2)
    with pytest.raises(InvalidValueError):
        store.reserve(33)
    store.append(k, k)
    with pytest.raises(InvalidValueError):
        store.reserve(2)
    q = torch.randn(2, 1, 1, 8)
    given = (q, store.keys, store.values, store.starts, store.lengths, store.width)
    with pytest.raises(ShapeError):
        ops.decode_attention(*given, pages=store.pages[:1])
    with pytest.raises(ShapeError):
        ops.decode_attention(*given, pages=store.pages.long())
    with pytest.raises(InvalidValueError):
        ops.decode_attention(*given[:-1], 33, pages=store.pages)
    with pytest.raises(IndexTableError):
        ops.decode_attention(*given, pages=torch.full_like(store.pages, 4))
    with pytest.raises(IndexTableError):
        ops.decode_attention(*given, pages=torch.full_like(store.pages, -1))
    with pytest.raises(IndexTableError):
        ops.kv_append_(store.keys, store.values, k, k, store.lengths - 9, pages=store.pages)
    with pytest.raises(IndexTableError):
        ops.kv_append_(store.keys, store.values, k, k, store.lengths, pages=torch.full_like(store.pages, 4))
    with pytest.raises(ShapeError):
        ops.kv_append_(store.keys, store.values, k, k, store.lengths, pages=store.pages[0])
    odd = [part[:, :, :8].contiguous() for part in store.keys]
    with pytest.raises(ShapeError):
        ops.decode_attention(q, odd, odd, store.starts, store.lengths, 3, pages=store.pages)
    with pytest.raises(DtypeError):
        ops.decode_attention(q.long(), *given[1:], pages=store.pages)
