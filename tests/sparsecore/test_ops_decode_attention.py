"""Decode attention on every instruction set against a float64 reading of its definition, one head at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from weights import generator

from sparsecore import ops
from sparsecore.backends.reference import decode_attention as reference
from sparsecore.backends.reference.bitplane import KEY_BITS
from sparsecore.cascade import KVFormat, KVStore, decode_attention
from sparsecore.errors import DtypeError, IndexTableError, InvalidValueError, ShapeError
from sparsecore.native import core

NAN, INFINITY = float("nan"), float("inf")
FORMATS = [
    *(KVFormat(dtype=dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)),
    *(KVFormat(bits, 8) for bits in KEY_BITS),
    KVFormat(8, 5),
    KVFormat(8, None, torch.bfloat16),
    KVFormat(4, None, torch.float32),
]


def store_of(k: Tensor, v: Tensor, format: KVFormat, **padding: Tensor) -> KVStore:  # noqa: A002
    store = KVStore(k.shape[0], k.shape[1], k.shape[3], v.shape[3], format=format, capacity=1)
    store.append(k, v, **padding)
    return store


def tensors(batch, heads, kv_heads, tokens, dim, rng, value_dim=None, dtype=torch.float32):
    q = torch.randn(batch, heads, 1, dim, generator=rng).to(dtype)
    k = torch.randn(batch, kv_heads, tokens, dim, generator=rng)
    return q, k, torch.randn(batch, kv_heads, tokens, value_dim or dim, generator=rng)


def fifteen_bits(q: Tensor) -> Tensor:
    """Query rows as they are quantised; the division is fp32 by definition."""
    scale = q.float().abs().amax(-1, keepdim=True) / (2**14 - 1)
    scale[scale == 0] = 1
    return torch.round(q.float() / scale).double() * scale.double()


@dataclass
class Exact:
    """The definition in float64; `doubt` marks heads whose decisions are too close to call in fp32."""

    out: Tensor
    lse: Tensor
    p: Tensor
    low: Tensor
    used: Tensor
    doubt: Tensor
    sizes: Tensor = field(default_factory=lambda: torch.empty(0))


def exact(q, store, low_given, **options) -> Exact:
    """Every head by itself. `low_given`: which heads read their low bits; that decision is checked apart."""
    options = {"threshold": 0.1, "value_keep": 1.0, "value_mass": 0.0, "group_values": False, **options}
    batch, heads, _, dim = q.shape
    group = heads // store.kv_heads
    keys, values = store.k().double(), store.v().double()
    high = keys
    if store.format.key_bits is not None:
        q = fifteen_bits(q)
        scale = store.keys[-1][:, :, : store.width, None].double()
        integers = torch.round(keys / scale)
        high = (torch.floor(integers / 16) * 16 + 8) * scale
    scale = options.get("scale") or dim**-0.5
    rows = options.get("rows")
    count = store.width if rows is None else rows.shape[1]
    result = Exact(
        torch.zeros(batch, heads, 1, values.shape[3], dtype=torch.float64),
        torch.full((batch, heads, 1), -INFINITY, dtype=torch.float64),
        torch.zeros(batch, heads, count, dtype=torch.float64),
        torch.zeros(batch, heads, dtype=torch.bool),
        torch.zeros(batch, heads, dtype=torch.int32),
        torch.zeros(batch, heads, dtype=torch.bool),
    )
    for b in range(batch):
        if rows is None:
            first = int(store.starts[b])
            places = torch.arange(first, first + int(store.lengths[b]))
            slots = places
        else:
            seen = count if options.get("row_counts") is None else int(options["row_counts"][b])
            places, slots = torch.arange(seen), rows[b, :seen]
        if not len(slots):
            continue
        kept = max(1, math.floor(options["value_keep"] * len(slots) + 1e-9))
        for kv in range(store.kv_heads):
            alive = [h for h in range(kv * group, (kv + 1) * group)
                     if options.get("heads") is None or bool(options["heads"][b, h])]  # fmt: skip
            own = {}
            for h in alive:
                passes = [(q[b, h, 0].double() * chosen[b, kv, slots]).sum(-1) * scale for chosen in (high, keys)]
                largest = float(torch.softmax(passes[0], 0).max())
                if store.format.key_bits is not None:
                    result.low[b, h] = largest < options["threshold"]
                    result.doubt[b, h] = abs(largest - options["threshold"]) < 1e-5
                scores = passes[1 if bool(low_given[b, h]) else 0]
                result.lse[b, h, 0] = torch.logsumexp(scores, 0)
                result.p[b, h, places] = own[h] = torch.softmax(scores, 0)
            shared = sum(own.values()) if options["group_values"] and own else None
            for h in alive:
                ranking = own[h] if shared is None else shared
                order = torch.sort(ranking, descending=True, stable=True)
                taken = order.indices[:kept]
                if kept < len(slots):
                    last, next_one = order.values[kept - 1 : kept + 1]
                    result.doubt[b, h] |= bool(last - next_one < 2e-6 * last)
                    members = [h] if shared is None else alive
                    masses = torch.stack([own[m][taken].sum() for m in members])
                    result.doubt[b, h] |= bool(((masses - options["value_mass"]).abs() < 1e-5).any())
                    if bool((masses < options["value_mass"]).any()):
                        taken = torch.arange(len(slots))
                result.used[b, h] = len(taken)
                result.out[b, h, 0] = own[h][taken] @ values[b, kv, slots[taken]]
    largest = [float(own.abs().max()) if own.numel() else 0.0 for own in values]
    result.sizes = (result.p.sum(-1) * torch.tensor(largest, dtype=torch.float64)[:, None]).clamp(min=1e-30)
    return result


def check(q, store, **options):
    found = decode_attention(store, q, **options)
    want = exact(q, store, found.low, **options)
    sure = ~want.doubt
    tolerance = {torch.float32: 4e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[q.dtype]
    # int8 values meet 16-bit probabilities in blocks of 64.
    if store.format.value_bits is not None:
        tolerance += 64 * 2.0**-17
    error = (found.out.double() - want.out).abs().amax((-2, -1)) / want.sizes
    assert float(torch.where(sure, error, 0).max()) < tolerance, f"{error.max()} of {tolerance}"
    torch.testing.assert_close(found.lse.double(), want.lse, atol=1e-5, rtol=1e-6)
    units = torch.round(want.p * 2**20)
    assert int((found.token_scores - units).abs().max() if units.numel() else 0) <= 8
    assert torch.equal(found.low[sure], want.low[sure])
    assert torch.equal(found.values_used[sure], want.used[sure])
    assert torch.equal(found.head_scores, torch.round(found.out.double().abs() * 2**20).sum((-2, -1)).long())
    return found


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_against_float64(format, isa, seed):  # noqa: A002
    rng = generator(seed)
    dtype = format.dtype if format.key_bits is None else torch.float32
    for shape in ((1, 1, 1, 1, 1), (2, 6, 3, 70, 33), (1, 4, 1, 200, 64), (1, 10, 2, 37, 128), (2, 3, 3, 129, 20)):
        q, k, v = tensors(*shape, rng, dtype=dtype)
        store = store_of(k, v, format)
        for threshold in (-1.0, 0.1, 2.0):
            check(q, store, threshold=threshold, value_keep=1.0)
        check(q, store, value_keep=0.3)
        check(q, store, value_keep=0.5, group_values=True, threshold=0.3)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_shapes(data):
    core.set_isa(data.draw(st.sampled_from(core.available_isas())))
    rng = generator(data.draw(st.integers(0, 2**31)))
    chosen = data.draw(st.sampled_from(FORMATS))
    batch, kv_heads, group = (data.draw(st.integers(1, high)) for high in (3, 3, 9))
    tokens, dim, value_dim = (data.draw(st.integers(1, high)) for high in (150, 140, 90))
    dtype = chosen.dtype if chosen.key_bits is None else data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    q, k, v = tensors(batch, kv_heads * group, kv_heads, tokens, dim, rng, value_dim, dtype)
    padding = {}
    side = data.draw(st.sampled_from(["none", "left", "right"]))
    if side != "none":
        padding["starts" if side == "left" else "counts"] = torch.randint(0, tokens + 1, (batch,), generator=rng)
    store = store_of(k, v, chosen, **padding)
    options = {
        "threshold": data.draw(st.sampled_from([-1.0, 0.05, 0.3, 2.0])),
        "value_keep": data.draw(st.sampled_from([1.0, 0.7, 0.3, 0.01])),
        "group_values": data.draw(st.booleans()),
        "value_mass": data.draw(st.sampled_from([0.0, 0.5, 0.9])),
    }
    if data.draw(st.booleans()):
        options["heads"] = torch.rand(batch, kv_heads * group, generator=rng) < 0.6
    if data.draw(st.booleans()):
        options["rows"], options["row_counts"] = random_rows(store, rng)
    check(q, store, **options)
    core.set_isa("auto")


def random_rows(store: KVStore, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random ascending slots of each sequence, with garbage behind them."""
    chosen = [torch.arange(int(n))[torch.rand(int(n), generator=rng) < 0.5] for n in store.lengths]
    rows = torch.full((store.batch, max(len(c) for c in chosen) + 2), -7)
    for b, own in enumerate(chosen):
        rows[b, : len(own)] = own + store.starts[b]
    return rows, torch.tensor([len(c) for c in chosen])


@pytest.mark.parametrize(
    "format", [KVFormat(dtype=torch.float32), KVFormat(dtype=torch.bfloat16), KVFormat(8, 8)], ids=str
)
def test_long_contexts_and_any_number_of_threads(format, isa, seed):  # noqa: A002
    """Few heads and many rows: threads share an item, and nothing may change."""
    rng = generator(seed)
    dtype = format.dtype if format.key_bits is None else torch.float32
    q, k, v = tensors(1, 3, 1, 2500, 40, rng, dtype=dtype)
    store, threads = store_of(k, v, format), torch.get_num_threads()
    rows = torch.arange(2500)[torch.rand(2500, generator=rng) < 0.9][None]
    for options in ({"threshold": 2.0}, {"value_keep": 0.3}, {"value_keep": 0.3, "group_values": True}, {"rows": rows}):
        try:
            results = []
            for count in (1, 2, 3, 5):
                torch.set_num_threads(count)
                results.append(check(q, store, **options))
        finally:
            torch.set_num_threads(threads)
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                assert torch.equal(a, b)


def test_keep_all_equals_dense_attention(isa, seed):
    q, k, v = tensors(2, 8, 2, 90, 64, generator(seed))
    store = store_of(k, v, KVFormat(dtype=torch.float32), starts=torch.tensor([0, 31]))
    mask = store.seen()[:, None, None, :]
    dense = scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
    torch.testing.assert_close(decode_attention(store, q).out, dense, atol=2e-6, rtol=2e-6)


def test_error_of_8_plus_4_bits_against_the_original(isa, seed):
    """The data of the design measurements: outlier channels, half of the heads peaked, half flat."""
    rng = generator(seed)
    q, k, v = tensors(2, 12, 12, 1024, 64, rng)
    k[..., :2] *= 4
    q[..., :2] *= 0.25
    for place, bonus in enumerate((2.5, 1.5, 0.5)):  # three tokens that the even heads attend to
        wanted = (math.log(1024) + bonus) * 8 / (q[:, ::2] ** 2).sum(-1, keepdim=True)
        k[:, ::2, 100 * place : 100 * place + 1] = q[:, ::2] * wanted
    dense = scaled_dot_product_attention(q.double(), k.double(), v.double())
    out = decode_attention(store_of(k, v, KVFormat(8, 8)), q, threshold=0.1).out
    assert float((out - dense).norm() / dense.norm()) < 1.3e-2


def test_low_bits_are_read_only_where_needed(isa):
    """Two keys that differ only in their low bits look alike to a head that does not need them."""
    k = torch.tensor([[127.0, 16.0], [127.0, 18.0]]).reshape(1, 1, 2, 2)
    q = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    store = store_of(k, torch.eye(2).reshape(1, 1, 2, 2), KVFormat(4, None, torch.float32))
    alike = decode_attention(store, q, scale=1.0, threshold=0.5)
    assert alike.out.flatten().tolist() == [0.5, 0.5] and not bool(alike.low)
    apart = decode_attention(store, q, scale=1.0, threshold=0.6)
    assert bool(apart.low)
    torch.testing.assert_close(apart.out.flatten(), torch.softmax(torch.tensor([16.0, 18.0]), 0))


def test_what_is_not_read_does_not_matter(isa, seed):
    q, k, v = tensors(2, 4, 2, 40, 16, generator(seed))
    keep = torch.arange(5, 35)[None].expand(2, -1)
    for chosen in (KVFormat(dtype=torch.float32), KVFormat(8, 8), KVFormat(8, None, torch.float32)):
        clean = decode_attention(store_of(k, v, chosen), q, rows=keep)
        dirty_k, dirty_v = k.clone(), v.clone()
        dirty_k[:, :, :5], dirty_v[:, :, 35:] = NAN, INFINITY
        dirty = decode_attention(store_of(dirty_k, dirty_v, chosen), q, rows=keep)
        for a, b in zip(clean, dirty, strict=True):
            assert torch.equal(a, b)


def test_dropped_values_do_not_matter(isa):
    k = torch.arange(10.0).reshape(1, 1, 10, 1)
    v = torch.ones(1, 1, 10, 1)
    v[0, 0, :7] = NAN
    store = store_of(k, v, KVFormat(dtype=torch.float32))
    out = decode_attention(store, torch.ones(1, 1, 1, 1), scale=1.0, value_keep=0.3)
    p = torch.softmax(torch.arange(10.0), 0)
    torch.testing.assert_close(out.out.flatten(), p[7:].sum()[None])
    assert int(out.values_used) == 3


@pytest.mark.parametrize(
    "format", [KVFormat(dtype=torch.float32), KVFormat(8, 8), KVFormat(4, None, torch.bfloat16)], ids=str
)
def test_tokens_that_are_not_finite(format, isa, seed):  # noqa: A002
    q, k, v = tensors(3, 4, 2, 70, 16, generator(seed))
    q = q.to(format.dtype) if format.key_bits is None else q
    k[0, 0, 3, 5], v[1, 1, 69, 2], q[2, 3, 0, 0] = NAN, NAN, INFINITY
    found = decode_attention(store_of(k, v, format), q)
    bad = found.out.isnan().any(-1).squeeze(-1)
    assert bad.tolist() == [[True, True, False, False], [False, False, True, True], [False, False, False, True]]
    assert found.lse.isnan().squeeze(-1).tolist() == [[True, True, False, False], [False] * 4, [False] * 3 + [True]]
    assert found.token_scores[0, :2].sum() == 0 and found.token_scores[2, 3].sum() == 0
    assert not bool(found.low[0, :2].any())


def test_pruned_heads_and_empty_sequences(isa, seed):
    q, k, v = tensors(2, 6, 2, 30, 16, generator(seed))
    heads = torch.tensor([[True, False, True, False, False, False], [True] * 6])
    for chosen in (KVFormat(dtype=torch.float32), KVFormat(8, 8)):
        store = store_of(k, v, chosen, counts=torch.tensor([30, 0]))
        found, full = decode_attention(store, q, heads=heads), decode_attention(store, q)
        assert torch.equal(found.out[0, [0, 2]], full.out[0, [0, 2]])
        gone = found.out[0, [1, 3, 4, 5]], found.token_scores[0, [1, 3, 4, 5]], found.out[1], found.token_scores[1]
        assert not any(bool(part.any()) for part in gone)
        assert bool((found.lse[1] == -INFINITY).all()) and bool((found.lse[0, 3:] == -INFINITY).all())
        assert not bool(found.low[1].any()) and not bool(found.values_used[1].any())
    nothing = KVStore(2, 2, 16)
    found = decode_attention(nothing, q.bfloat16())
    assert not bool(found.out.any()) and found.token_scores.shape == (2, 6, 0)


def test_scores_are_optional(isa, seed):
    q, k, v = tensors(1, 2, 1, 9, 8, generator(seed))
    store = store_of(k, v, KVFormat(dtype=torch.float32))
    bare = decode_attention(store, q, token_scores=False, head_scores=False)
    assert bare.token_scores.shape == (1, 2, 0) and bare.head_scores.shape == (1, 0)
    assert torch.equal(bare.out, decode_attention(store, q).out)


def test_strided_stores_and_queries(isa, seed):
    rng = generator(seed)
    q = torch.randn(2, 1, 4, 16, generator=rng).transpose(1, 2)
    k, v = (torch.randn(2, 50, 2, 16, generator=rng).transpose(1, 2) for _ in range(2))
    bounds = torch.zeros(2, dtype=torch.int64), torch.tensor([50, 41])
    strided = ops.decode_attention(q, [k], [v], *bounds, 50)
    plain = ops.decode_attention(q.contiguous(), [k.contiguous()], [v.contiguous()], *bounds, 50)
    backwards = ops.decode_attention(q, [k.mT.contiguous().mT], [v.mT.contiguous().mT], *bounds, 50)
    for a, b, c in zip(strided, plain, backwards, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, atol=4, rtol=1e-5)


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_compiled_kernels_agree_with_the_reference(format, isa, seed):  # noqa: A002
    rng = generator(seed)
    dtype = format.dtype if format.key_bits is None else torch.float32
    q, k, v = tensors(2, 6, 3, 70, 48, rng, dtype=dtype)
    store = store_of(k, v, format)
    arguments = (q, store.keys, store.values, store.starts, store.lengths, store.width)
    mine = ops.decode_attention(*arguments, msb_bits=store.msb_bits, value_keep=0.5)
    rule = (store.msb_bits, 48**-0.5, 0.1, 0.5, 0.0, False, True, True)
    theirs = reference.decode_attention(*arguments, None, None, None, *rule)
    for a, b in zip(mine[:2], theirs[:2], strict=True):
        torch.testing.assert_close(a, b, atol=2e-2 if dtype != torch.float32 else 2e-3, rtol=2e-3)
    assert int((mine.token_scores - theirs[2]).abs().max()) <= 8


def test_partial_results_merge(isa, seed):
    q, k, v = tensors(2, 4, 2, 64, 16, generator(seed))
    chosen = KVFormat(dtype=torch.float32)
    whole = decode_attention(store_of(k, v, chosen), q)
    first = decode_attention(store_of(k[:, :, :20], v[:, :, :20], chosen), q)
    second = decode_attention(store_of(k[:, :, 20:], v[:, :, 20:], chosen, counts=torch.tensor([44, 44])), q)
    out, lse = ops.merge_attention(first.out, first.lse, second.out, second.lse)
    torch.testing.assert_close(out, whole.out, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(lse, whole.lse, atol=1e-6, rtol=1e-6)
    nothing = decode_attention(KVStore(2, 2, 16, format=chosen), q)
    out, lse = ops.merge_attention(whole.out, whole.lse, nothing.out, nothing.lse)
    assert torch.equal(out, whole.out) and torch.equal(lse, whole.lse)
    out, lse = ops.merge_attention(nothing.out, nothing.lse, nothing.out, nothing.lse)
    assert not bool(out.any()) and bool((lse == -INFINITY).all())
    with pytest.raises(ShapeError, match="parts"):
        ops.merge_attention(whole.out, whole.lse, whole.out[:1], whole.lse[:1])


def test_compiles_without_a_break(seed):
    q, k, v = tensors(1, 4, 2, 30, 16, generator(seed))
    store = store_of(k, v, KVFormat(8, 8))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        ops.kv_append_(store.keys, store.values, k, v, store.starts + lengths, msb_bits=8, value_bits=8)
        found = ops.decode_attention(q, store.keys, store.values, store.starts, lengths + 1, 31, msb_bits=8)
        return found.out, found.token_scores

    out, scores = step(q, k[:, :, :1] * 2, v[:, :, :1] * 2, store.lengths)
    plain = store_of(torch.cat([k, k[:, :, :1] * 2], 2), torch.cat([v, v[:, :, :1] * 2], 2), KVFormat(8, 8))
    eager = decode_attention(plain, q)
    assert torch.equal(out, eager.out) and torch.equal(scores, eager.token_scores)
    for mine, theirs in zip(store.keys, plain.keys, strict=True):
        assert torch.equal(mine[:, :, :31], theirs[:, :, :31])


def test_bad_input_is_named():
    q, k, v = tensors(2, 4, 2, 10, 16, generator(0))
    store = store_of(k, v, KVFormat(8, 8))
    ten = torch.arange(10).expand(2, 10)
    for wrong, error, match in (
        ({"rows": ten.flip(1)}, IndexTableError, "ascending"),
        ({"rows": ten + 1}, IndexTableError, "ascending"),
        ({"rows": ten - 1}, IndexTableError, "ascending"),
        ({"rows": ten.div(2, rounding_mode="floor")}, IndexTableError, "ascending"),
        ({"rows": ten, "row_counts": torch.tensor([11, 2])}, IndexTableError, "row"),
        ({"rows": ten.int()}, DtypeError, "rows"),
        ({"rows": ten[0]}, ShapeError, "rows"),
        ({"row_counts": torch.tensor([1, 2])}, InvalidValueError, "row_counts"),
        ({"heads": torch.ones(2, 4)}, DtypeError, "heads"),
        ({"heads": torch.ones(2, 2, dtype=torch.bool)}, ShapeError, "heads"),
        ({"value_keep": 0.0}, InvalidValueError, "value_keep"),
        ({"value_keep": 1.1}, InvalidValueError, "value_keep"),
        ({"value_keep": NAN}, InvalidValueError, "value_keep"),
        ({"scale": INFINITY}, InvalidValueError, "scale"),
        ({"threshold": NAN}, InvalidValueError, "threshold"),
    ):
        with pytest.raises(error, match=match):
            decode_attention(store, q, **wrong)
    with pytest.raises(ShapeError, match="q"):
        decode_attention(store, q[:, :3])
    with pytest.raises(ShapeError, match="keys"):
        decode_attention(store, q[..., :15])
    with pytest.raises(DtypeError, match="keys"):
        decode_attention(store_of(k, v, KVFormat()), q)
    with pytest.raises(InvalidValueError, match="width"):
        ops.decode_attention(q, store.keys, store.values, store.starts, store.lengths, 65, msb_bits=8)
    with pytest.raises(IndexTableError, match="outside"):
        ops.decode_attention(q, store.keys, store.values, store.starts, store.lengths + 1, 10, msb_bits=8)
    with pytest.raises(ShapeError, match="tensors of keys"):
        ops.decode_attention(q, store.keys, store.values, store.starts, store.lengths, 10, msb_bits=12)
    with pytest.raises(InvalidValueError, match="7"):
        ops.decode_attention(q, store.keys, store.values, store.starts, store.lengths, 10, msb_bits=7)
