"""Decode attention and its store on the device, through the back end's own functions, against the reference."""

from __future__ import annotations

import pytest
import torch
from weights import generator

from sparsecore.backends.cuda import decode_attention as cuda
from sparsecore.backends.reference import decode_attention as reference
from sparsecore.backends.reference import paged
from sparsecore.cascade import KVFormat, KVStore
from sparsecore.errors import DtypeError, InvalidValueError, LaunchError, ShapeError, UnsupportedError

FORMATS = [
    *(KVFormat(dtype=dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)),
    *(KVFormat(bits, 8) for bits in (4, 8, 12)),
    KVFormat(6, None, torch.bfloat16),
    KVFormat(10, 4),
]


def _store(batch, kv_heads, tokens, dim, value_dim, format, rng):  # noqa: A002
    store = KVStore(batch, kv_heads, dim, value_dim, format=format, capacity=tokens)
    k, v = (torch.randn(batch, kv_heads, tokens, width, generator=rng) for width in (dim, value_dim))
    starts = torch.randint(0, max(1, tokens // 3), (batch,), generator=rng)
    store.append(k, v, starts=starts.clamp(max=tokens))
    return store


def _rule(store, scale, **options):
    defaults = {"threshold": 0.1, "value_keep": 1.0, "value_mass": 0.0, "group_values": False}
    return (store.msb_bits, scale, *{**defaults, **options}.values(), True, True)


def _compare(got, expected):
    """Decisions are the same; numbers but for the order of sums."""
    names = ("out", "lse", "token_scores", "head_scores", "low", "values_used")
    mine, theirs = (dict(zip(names, (part.cpu() for part in parts), strict=True)) for parts in (got, expected))
    assert torch.equal(mine["low"], theirs["low"]) and torch.equal(mine["values_used"], theirs["values_used"])
    step = {torch.float64: 2e-5, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[mine["out"].dtype]
    torch.testing.assert_close(mine["out"], theirs["out"], atol=step, rtol=step)
    torch.testing.assert_close(mine["lse"], theirs["lse"], atol=2e-5, rtol=2e-5)
    assert ((mine["token_scores"] - theirs["token_scores"]).abs() <= 16).all()
    units = torch.round(mine["out"].double().abs() * 2**20).sum((-2, -1))
    assert torch.equal(mine["head_scores"], units.long())


def _on(device, parts):
    return [None if part is None else part.to(device) if torch.is_tensor(part) else part for part in parts]


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_equals_the_reference(format, device, seed):  # noqa: A002
    rng = generator(seed)
    for tokens, group, options in (
        (0, 1, {}),
        (1, 4, {"threshold": 2.0}),
        (33, 2, {"value_keep": 0.3, "threshold": 0.3}),
        (150, 7, {"value_keep": 0.25, "group_values": True, "value_mass": 0.5}),
    ):
        store = _store(2, 2, tokens, 64, 40, format, rng)
        dtype = torch.bfloat16 if format.key_bits else format.dtype
        q = torch.randn(2, 2 * group, 1, 64, generator=rng).to(dtype)
        heads = torch.rand(2, 2 * group, generator=rng) < 0.8
        seen = (store.starts, store.lengths, store.width, None, None, heads)
        rule = _rule(store, 0.3, **options)
        keys, values = _on(device, store.keys), _on(device, store.values)
        got = cuda.decode_attention(q.to(device), keys, values, *_on(device, seen), *rule)
        _compare(got, reference.decode_attention(q, store.keys, store.values, *seen, *rule))


def test_selected_rows_of_pages(device, seed):
    rng = generator(seed)
    store = _store(2, 2, 100, 32, 32, KVFormat(8, 8), rng)
    size, entries = 16, 7
    pages = torch.randperm(20, generator=rng)[: 2 * entries].view(2, entries).int()
    pools = []
    for part in (*store.keys, *store.values):
        pool = torch.zeros(20, 2, size, *part.shape[3:], dtype=part.dtype)
        for slot in range(100):
            pool[pages[:, slot // size].long(), :, slot % size] = part[:, :, slot]
        pools.append(pool)
    q = torch.randn(2, 4, 1, 32, generator=rng)
    rows = torch.stack([torch.randperm(60, generator=rng)[:20].sort().values + 40 for _ in range(2)])
    counts = torch.tensor([20, 13])
    seen = (store.starts, store.lengths, 100, rows, counts, None)
    rule = _rule(store, 0.3, value_keep=0.5)
    expected = reference.decode_attention(q, store.keys, store.values, *seen, *rule)
    pools, pages = _on(device, pools), pages.to(device)
    arguments = (q.to(device), pools[:3], pools[3:], *_on(device, seen), *rule, pages)
    _compare(cuda.decode_attention(*arguments), expected)
    gathered = [paged.gather(part, pages) for part in pools]
    plain = cuda.decode_attention(q.to(device), gathered[:3], gathered[3:], *_on(device, seen), *rule)
    for mine, theirs in zip(cuda.decode_attention(*arguments), plain, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_append_and_compact_write_the_bytes_of_the_reference(format, device, seed):  # noqa: A002
    rng = generator(seed)
    store, mine = (KVStore(2, 2, 33, 20, format=format, capacity=64) for _ in range(2))
    k, v = (torch.randn(2, 7, 2, width, generator=rng).to(torch.bfloat16).transpose(1, 2) for width in (33, 20))
    k[0, 0, 3, 1], v[1, 1, 2, 0] = float("inf"), float("nan")
    k[1, 0, 0], positions = 0, torch.tensor([0, 57])
    bits = (store.msb_bits, format.value_bits or 0)
    keys, values = _on(device, mine.keys), _on(device, mine.values)
    reference.kv_append_(store.keys, store.values, k, v, positions, *bits)
    cuda.kv_append_(keys, values, k.to(device), v.to(device), positions.to(device), *bits)
    index, counts = torch.tensor([[1, 3, 6, 0], [58, 59, 63, 63]]), torch.tensor([3, 3])
    for compacted in (False, True):
        if compacted:
            reference.kv_compact_([*store.keys, *store.values], index, counts)
            cuda.kv_compact_([*keys, *values], index.to(device), counts.to(device))
        for got, expected in zip((*keys, *values), (*store.keys, *store.values), strict=True):
            torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=0, equal_nan=True)


def test_what_has_no_kernel_is_computed_by_torch(device, seed):
    rng = generator(seed)
    for format, dim in ((KVFormat(dtype=torch.float64), 8), (KVFormat(8, 8), 300)):  # noqa: A001
        store = _store(1, 1, 20, dim, 8, format, rng)
        q = torch.randn(1, 1, 1, dim, generator=rng).to(format.dtype if format.key_bits is None else torch.float32)
        seen = (store.starts, store.lengths, store.width, None, None, None)
        rule = _rule(store, 0.1)
        stored = _on(device, store.keys), _on(device, store.values)
        got = cuda.decode_attention(q.to(device), *stored, *_on(device, seen), *rule)
        _compare(got, reference.decode_attention(q, store.keys, store.values, *seen, *rule))


def test_nothing_is_asked_of_the_device_but_launches(emulated, seed):
    """Five kernels, whatever the values on the device are: such a call can be captured in a graph."""
    rng = generator(seed)
    store = _store(2, 2, 40, 32, 32, KVFormat(8, 8), rng)
    q = torch.randn(2, 4, 1, 32, generator=rng)
    seen = (store.starts, store.lengths, store.width, None, None, None)
    for lengths in (store.lengths, torch.zeros_like(store.lengths)):
        before = emulated.launches()
        seen = (store.starts, lengths, store.width, None, None, None)
        cuda.decode_attention(q, store.keys, store.values, *seen, *_rule(store, 0.3, value_keep=0.5))
        assert emulated.launches() == before + 5
    emulated.fail_next(719)
    with pytest.raises(LaunchError, match="cuda_decode_attention"):
        cuda.decode_attention(q, store.keys, store.values, *seen, *_rule(store, 0.3))


def test_refuses_what_does_not_fit(emulated):
    store = KVStore(2, 2, 32, format=KVFormat(8, 8), capacity=64)
    k = torch.randn(2, 2, 5, 32)
    store.append(k, k)
    q = torch.randn(2, 4, 1, 32)
    seen = (store.starts, store.lengths, store.width, None, None, None)
    rule = _rule(store, 0.3)
    for wrong in (q[:, :3], q[..., :31], q[:1]):
        with pytest.raises(ShapeError):
            cuda.decode_attention(wrong, store.keys, store.values, *seen, *rule)
    with pytest.raises(InvalidValueError):
        cuda.decode_attention(q, store.keys, store.values, *seen[:2], 65, *seen[3:], *rule)
    with pytest.raises(DtypeError):
        cuda.decode_attention(q, store.keys, store.values, store.starts.int(), *seen[1:], *rule)
    with pytest.raises(ShapeError):
        cuda.decode_attention(q, store.keys, store.values, *seen, *rule, torch.zeros(2, 1, dtype=torch.int32)[:1])
    with pytest.raises(ShapeError):
        cuda.kv_append_(store.keys, store.values, k[..., :31], k, store.lengths, 8, 8)
    for call, arguments in (
        (cuda.decode_attention, (q, store.keys, store.values, store.starts.to("meta"), *seen[1:], *rule)),
        (cuda.kv_append_, (store.keys, store.values, k, k, store.lengths.to("meta"), 8, 8)),
        (cuda.kv_compact_, ([*store.keys], torch.zeros(2, 3, dtype=torch.int64), store.lengths.to("meta"))),
    ):
        with pytest.raises(UnsupportedError, match="is on meta and"):
            call(*arguments)
    with pytest.raises(ShapeError):
        cuda.kv_compact_([*store.keys], torch.zeros(1, 3, dtype=torch.int64), store.lengths)
