from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from weights import DTYPES, generator

from sparsecore import ops
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError, UnsupportedError
from sparsecore.native import core
from sparsecore.ops import SCORE_BITS, scored_attention

NAN, INFINITY = float("nan"), float("inf")
ONE = 1 << SCORE_BITS
# Products, sums and exponentials in fp32; for bf16 both factors of P V are rounded to 8 bits.
ERROR = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 1.2e-2}


def tensors(batch, heads, queries, keys, width, rng, dtype=torch.float32, values=None, groups=1, size=1.0):
    return tuple(
        (torch.randn(batch, count, tokens, wide, generator=rng) * size).to(dtype)
        for count, tokens, wide in (
            (heads * groups, queries, width),
            (heads, keys, width),
            (heads, keys, width if values is None else values),
        )
    )


def seen(q, k, mask, causal):
    """Which key each query sees, by its definition."""
    queries, keys = q.shape[2], k.shape[2]
    visible = torch.ones(*q.shape[:3], keys, dtype=torch.bool)
    if mask is not None:
        visible &= mask
    if causal:
        visible &= torch.arange(keys)[None, :] <= torch.arange(queries)[:, None] + keys - queries
    return visible


def dense(q, k, visible, scale):
    """Float64 scores, probabilities and lse, the slow way."""
    group = q.shape[1] // k.shape[1]
    scores = q.double() @ k.double().repeat_interleave(group, 1).transpose(-1, -2) * scale
    weights = torch.where(visible, torch.exp(scores - scores.masked_fill(~visible, -1e300).amax(-1, True)), 0)
    p = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
    return scores, p, torch.logsumexp(scores.masked_fill(~visible, -INFINITY), -1)


def check(q, k, v, mask=None, counted=None, causal=False, scale=None, value_keep=1.0):
    """Compare one call with float64 and with the definition of every output."""
    result = scored_attention(q, k, v, mask, counted, causal, scale, value_keep)
    batch, heads, queries, width = q.shape
    assert (result.out.shape, result.out.dtype) == ((batch, heads, queries, v.shape[3]), q.dtype)
    assert (result.lse.shape, result.lse.dtype) == ((batch, heads, queries), torch.float32)
    assert (result.token_scores.shape, result.token_scores.dtype) == ((batch, heads, k.shape[2]), torch.int64)
    assert (result.head_scores.shape, result.head_scores.dtype) == ((batch, heads), torch.int64)
    assert (result.values_used.shape, result.values_used.dtype) == ((batch, heads), torch.int32)
    scale = max(width, 1) ** -0.5 if scale is None else scale
    visible = seen(q, k, mask, causal)
    scores, p, lse = dense(q, k, visible, scale)
    counts = torch.ones(batch, 1, queries, 1) if counted is None else counted[:, None, :, None]
    counts = counts.bool()
    # fp32 scores of this size are off by a few units in the last place of their largest term.
    slack = 3e-7 * math.sqrt(width + 1) * (1 + float(scores.abs().max() if scores.numel() else 0))
    torch.testing.assert_close(result.lse.double(), lse, atol=3 * slack, rtol=1e-6)
    check_values(result, p, v, visible, counts, value_keep, slack)
    # Each term is within its rounding, half a unit, and the error of its probability.
    terms = (p * counts).sum(2)
    bound = (counts & visible).sum(2) * 0.51 + terms * ONE * (4 * slack + 1e-6)
    assert bool(((result.token_scores.double() - terms * ONE).abs() <= bound + 1e-9).all())
    stored = torch.where(counts, result.out, 0).double().abs()
    expected = torch.round(stored * ONE).clamp(max=2**31 - 1).long().sum((2, 3))
    assert torch.equal(result.head_scores, expected)
    return result


def check_values(result, p, v, visible, counts, value_keep, slack):
    """The output, and which V rows it multiplied: rows near the last probability kept may go either way."""
    value = v.double().repeat_interleave(p.shape[1] // v.shape[1], 1)
    number = torch.floor(visible.sum(-1).double() * value_keep + 1e-9).clamp(min=1)
    number = torch.minimum(number, visible.sum(-1)).long()
    if value_keep == 1 or p.shape[-1] == 0:
        surely = possibly = visible
    else:
        ranked = torch.where(visible, p, -1).sort(dim=-1, descending=True).values
        last = ranked.gather(-1, (number - 1).clamp(min=0).unsqueeze(-1))
        next_one = ranked.gather(-1, number.clamp(max=p.shape[-1] - 1).unsqueeze(-1))
        near = last * (4 * slack + 1e-6) + 1e-38
        surely = visible & ((p > next_one + near) | (number == visible.sum(-1)).unsqueeze(-1)) & (p >= last)
        possibly = visible & (p >= last - near)
    used = [(chosen & counts).any(2).sum(-1) for chosen in (surely, possibly)]
    assert bool(((result.values_used >= used[0]) & (result.values_used <= used[1])).all())
    # Whatever the choice among the doubtful rows, the output lies within their sum.
    doubt = torch.where(possibly & ~surely, p, 0) @ value.abs()
    exact = torch.where(surely, p, 0) @ value
    error = ERROR[result.out.dtype]
    size = torch.where(possibly, p, 0) @ value.abs()
    bound = doubt * 1.01 + size * (error + 4 * slack) + exact.abs() * error + 1e-6
    assert bool(((result.out.double() - exact).abs() <= bound).all())


SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 3, 5, 7, 16, 16, 1),
    (1, 2, 33, 70, 33, 20, 2),
    (1, 1, 50, 50, 64, 64, 3),
    (2, 1, 3, 200, 80, 100, 1),
    (1, 2, 97, 129, 128, 128, 1),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_float64(shape, dtype, isa, seed):
    rng = generator(seed)
    batch, heads, queries, keys, width, values, groups = shape
    q, k, v = tensors(batch, heads, queries, keys, width, rng, dtype, values, groups)
    counted = torch.rand(batch, queries, generator=rng) < 0.7
    per_key = torch.rand(batch, 1, 1, keys, generator=rng) < 0.8
    pairs = torch.rand(1, heads * groups, queries, keys, generator=rng) < 0.4
    for mask in (None, per_key, pairs):
        for causal in (False, True):
            for keep in (1.0, 0.3):
                check(q, k, v, mask, counted if keep < 1 else None, causal, None, keep)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_shapes(data):
    core.set_isa(data.draw(st.sampled_from(core.available_isas())))
    rng = generator(data.draw(st.integers(0, 2**31)))
    batch, heads, queries, keys, width = (data.draw(st.integers(1, high)) for high in (2, 2, 70, 150, 70))
    groups = data.draw(st.integers(1, 3))
    q, k, v = tensors(
        batch, heads, queries, keys, width, rng, data.draw(st.sampled_from(DTYPES)), data.draw(st.integers(1, 70)),
        groups, data.draw(st.sampled_from([0.1, 1.0, 2.0])),
    )  # fmt: skip
    shape = (
        data.draw(st.sampled_from([1, batch])),
        data.draw(st.sampled_from([1, heads * groups])),
        data.draw(st.sampled_from([1, queries])),
        keys,
    )
    mask = torch.rand(shape, generator=rng) < data.draw(st.sampled_from([0.02, 0.7, 1.1]))
    counted = torch.rand(batch, queries, generator=rng) < 0.5
    check(q, k, v, mask, counted, data.draw(st.booleans()), 0.2, data.draw(st.sampled_from([1.0, 0.6, 0.1, 1e-6])))
    core.set_isa("auto")


@pytest.mark.parametrize("sizes", [(0, 2, 3, 4, 8), (2, 0, 3, 4, 8), (2, 2, 0, 4, 8), (2, 2, 3, 0, 8), (2, 2, 3, 4, 0)])
def test_empty(sizes, isa):
    q, k, v = tensors(*sizes, generator(0), values=5)
    for keep in (1.0, 0.5):
        result = scored_attention(q, k, v, value_keep=keep)
        assert result.out.shape == (*q.shape[:3], 5)
        assert bool(result.out.isfinite().all())
        if sizes[3] == 0:
            assert not bool(result.out.any())
            assert bool((result.lse == -INFINITY).all())
        elif sizes[4] == 0:  # equal scores
            torch.testing.assert_close(result.lse, torch.full(q.shape[:3], math.log(4)))
    assert scored_attention(q, k, v[..., :0]).out.shape == (*q.shape[:3], 0)


def test_a_query_without_keys_gives_zeros(dtype, isa, seed):
    q, k, v = tensors(2, 2, 9, 70, 32, generator(seed), dtype)
    mask = torch.ones(2, 1, 9, 70, dtype=torch.bool)
    mask[0, 0, 4] = False
    mask[1] = False
    result = check(q, k, v, mask)
    assert not bool(result.out[0, :, 4].any() or result.out[1].any())
    assert bool((result.lse[0, :, 4] == -INFINITY).all() and (result.lse[1] == -INFINITY).all())
    assert not bool(result.token_scores[1].any() or result.values_used[1].any())
    # More queries than keys: the first see nothing.
    result = check(q, k[:, :, :4], v[:, :, :4], causal=True)
    assert not bool(result.out[:, :, :5].any())


def test_unseen_and_dropped_values_contribute_nothing(dtype, isa, seed):
    q, k, v = tensors(2, 2, 20, 70, 16, generator(seed), dtype)
    mask = torch.ones(2, 1, 1, 70, dtype=torch.bool)
    mask[..., 13] = mask[..., 66:] = False
    plain = scored_attention(q, k, v, mask, value_keep=0.5)
    k[:, :, 13], v[:, :, 13], v[:, :, 69], v[:, :, 66] = NAN, INFINITY, NAN, -INFINITY
    spoiled = scored_attention(q, k, v, mask, value_keep=0.5)
    for a, b in zip(plain, spoiled, strict=True):
        torch.testing.assert_close(a, b, atol=ERROR[dtype], rtol=ERROR[dtype])
    assert torch.equal(plain.token_scores, spoiled.token_scores)
    # Causal: the last key's value reaches the last query only.
    v = torch.ones(2, 2, 20, 16, dtype=dtype)
    v[:, :, 19] = INFINITY
    out = scored_attention(q, k[:, :, 20:40], v, causal=True).out
    torch.testing.assert_close(out[:, :, :19], v[:, :, :19], atol=ERROR[dtype], rtol=ERROR[dtype])
    assert bool((out[:, :, 19] == INFINITY).all())


def test_nan_stays_with_its_query_and_counts_nothing(dtype, isa, seed):
    q, k, v = tensors(1, 2, 9, 40, 16, generator(seed), dtype)
    clean = scored_attention(q, k, v)
    q[0, 1, 3, 0] = NAN
    q[0, 0, 5, 2] = INFINITY
    result = scored_attention(q, k, v)
    assert bool(result.out[0, 1, 3].isnan().all() and result.lse[0, 1, 3].isnan())
    spoiled = torch.zeros(1, 2, 9, dtype=torch.bool)
    spoiled[0, 1, 3] = spoiled[0, 0, 5] = True
    assert torch.equal(result.out[~spoiled], clean.out[~spoiled])
    counted = torch.ones(1, 9, dtype=torch.bool)
    counted[0, 3] = False
    assert torch.equal(result.token_scores[0, 1], scored_attention(q, k, v, counted=counted).token_scores[0, 1])
    assert int(result.head_scores[0, 1]) == int(scored_attention(q, k, v, counted=counted).head_scores[0, 1])


def test_strided_inputs(dtype, isa, seed):
    rng = generator(seed)
    q, k, v = (torch.randn(2, 37, 3, 16, generator=rng).to(dtype).transpose(1, 2) for _ in range(3))
    mask = (torch.rand(37, 37, 2, generator=rng) < 0.7).permute(2, 0, 1).unsqueeze(1)
    counted = (torch.rand(37, 2, generator=rng) < 0.7).T
    strided = scored_attention(q, k, v, mask, counted, value_keep=0.4)
    plain = scored_attention(*(t.contiguous() for t in (q, k, v, mask, counted)), value_keep=0.4)
    columns = [t.transpose(2, 3).contiguous().transpose(2, 3) for t in (q, k, v)]
    for a, b, c in zip(strided, plain, scored_attention(*columns, mask, counted, value_keep=0.4), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    shared = mask[:, :, :1]
    for a, b in zip(
        scored_attention(q, k, v, shared), scored_attention(q, k, v, shared.expand(2, 3, 37, 37)), strict=True
    ):
        assert torch.equal(a, b)


def test_same_bits_for_any_number_of_threads(dtype, isa, seed):
    rng = generator(seed)
    q, k, v = tensors(2, 1, 150, 170, 32, rng, dtype, groups=3)
    counted = torch.rand(2, 150, generator=rng) < 0.5
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            results.append(scored_attention(q, k, v, None, counted, True, None, 0.3))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_scores_do_not_change_the_output(dtype, isa, seed):
    q, k, v = tensors(2, 2, 40, 50, 32, generator(seed), dtype)
    both = scored_attention(q, k, v)
    neither = scored_attention(q, k, v, token_scores=False, head_scores=False)
    assert torch.equal(both.out, neither.out)
    assert torch.equal(both.lse, neither.lse)
    assert torch.equal(both.values_used, neither.values_used)
    assert neither.token_scores.shape == (2, 2, 0)
    assert neither.head_scores.shape == (2, 0)


def test_scores_of_equal_keys_are_exact(isa):
    """Probabilities of 1/64 are exact in fp32: every score is the number of queries times 2^20 / 64."""
    q, k = torch.zeros(1, 2, 33, 8), torch.zeros(1, 2, 64, 8)
    v = torch.ones(1, 2, 64, 4)
    result = scored_attention(q, k, v)
    assert bool((result.token_scores == 33 * (ONE // 64)).all())
    assert bool((result.head_scores == 33 * 4 * ONE).all())
    assert bool((result.values_used == 64).all())
    # Equal probabilities go to the lower index.
    half = scored_attention(q, k, torch.arange(64.0).expand(1, 2, 4, 64).transpose(2, 3), value_keep=0.25)
    torch.testing.assert_close(half.out, torch.full((1, 2, 33, 4), sum(range(16)) / 64))
    assert bool((half.values_used == 16).all())


def test_large_outputs_saturate(isa):
    result = scored_attention(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 1, 4), torch.full((1, 1, 1, 3), 1e6))
    assert int(result.head_scores) == 6 * (2**31 - 1)


def test_partial_results_merge_by_lse(dtype, isa, seed):
    q, k, v = tensors(1, 2, 20, 90, 32, generator(seed), dtype)
    whole = scored_attention(q, k, v)
    parts = [scored_attention(q, k[:, :, s], v[:, :, s]) for s in (slice(0, 37), slice(37, 90))]
    weights = torch.stack([part.lse for part in parts]).softmax(0)
    merged = sum(w.unsqueeze(-1) * part.out.float() for w, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(merged, whole.out.float(), atol=2 * ERROR[dtype], rtol=2 * ERROR[dtype])


def test_gradients(seed):
    rng = generator(seed)
    q, k, v = (t.double().requires_grad_() for t in tensors(1, 2, 5, 7, 6, rng, groups=2))
    mask = torch.rand(1, 1, 5, 7, generator=rng) < 0.7
    mask[0, 0, 2] = False

    def outputs(q, k, v):
        result = scored_attention(q, k, v, mask, causal=True, value_keep=0.6)
        return result.out, torch.where(result.lse.isfinite(), result.lse, 0).double()

    towards = torch.randn(1, 4, 5, 6, generator=rng, dtype=torch.float64)
    column = torch.randn(1, 4, 5, generator=rng, dtype=torch.float64)
    out, lse = outputs(q, k, v)
    mine = torch.autograd.grad((out * towards).sum() + (lse * column).sum(), (q, k, v))
    visible = seen(q, k, mask, True)
    scores = (q @ k.repeat_interleave(2, 1).transpose(-1, -2)) * 6**-0.5
    p = torch.where(visible, torch.softmax(scores.masked_fill(~visible, -1e30), -1), 0)
    number = torch.floor(visible.sum(-1) * 0.6 + 1e-9).clamp(min=1).long()
    rank = torch.where(visible, p, -1).argsort(dim=-1, descending=True, stable=True).argsort(-1)
    kept = torch.where((rank < number[..., None]) & visible, p, 0)
    plain = kept @ v.repeat_interleave(2, 1)
    lse = torch.where(visible.any(-1), torch.logsumexp(scores.masked_fill(~visible, -1e30), -1), 0)
    theirs = torch.autograd.grad((plain * towards).sum() + (lse * column).sum(), (q, k, v))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_input_is_checked():
    q, k, v = tensors(2, 2, 4, 5, 8, generator(0), groups=2)

    def call(q=q, k=k, v=v, mask=None, counted=None, scale=1.0, keep=1.0):
        scored_attention(q, k, v, mask, counted, False, scale, keep)

    for wrong in ({"q": q[0]}, {"k": k[:1]}, {"k": k[..., :4]}, {"v": v[:, :, :4]}, {"q": q[:, :3]}, {"k": k[:, :0]}):
        with pytest.raises(ShapeError, match="q, k, v are"):
            call(**wrong)
    with pytest.raises(DtypeError):
        call(v=v.half())
    with pytest.raises(DtypeError, match="mask"):
        call(mask=torch.ones(2, 1, 1, 5))
    for shape in ((2, 1, 1, 4), (2, 2, 4, 5), (3, 1, 1, 5), (2, 1, 3, 5), (5,), (2, 1, 1, 1)):
        with pytest.raises(ShapeError, match="mask"):
            call(mask=torch.ones(shape, dtype=torch.bool))
    with pytest.raises(ShapeError, match="counted"):
        call(counted=torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(DtypeError, match="counted"):
        call(counted=torch.ones(2, 4))
    for keep in (0.0, -1.0, 1.5, NAN):
        with pytest.raises(InvalidValueError, match="value_keep"):
            call(keep=keep)
    with pytest.raises(InvalidValueError, match="scale"):
        call(scale=INFINITY)
    for name, tensor in (("k", k), ("v", v), ("counted", torch.ones(2, 4, dtype=torch.bool))):
        with pytest.raises(UnsupportedError, match=f"{name} is on meta and q on cpu"):
            call(**{name: tensor.to("meta")})


def test_opcheck(seed):
    mask = torch.rand(2, 1, 4, 5, generator=generator(seed)) < 0.7
    counted = torch.rand(2, 4, generator=generator(seed)) < 0.7
    operator = torch.ops.sparsecore.scored_attention.default
    for gradients in (True, False):
        q, k, v = (t.requires_grad_(gradients) for t in tensors(2, 3, 4, 5, 8, generator(seed)))
        for scores in (True, False):
            torch.library.opcheck(operator, (q, k, v, mask, counted, True, 0.3, 0.6, scores, scores))


def test_compile_with_dynamic_lengths(seed):
    torch.compiler.reset()

    def model(q, k, v, counted):
        result = ops.scored_attention(q, k, v, None, counted, True, value_keep=0.5)
        return result.out.sin(), result.token_scores + 1

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for queries, keys in ((3, 5), (7, 9), (4, 4)):
        q, k, v = tensors(2, 3, queries, keys, 8, generator(seed))
        counted = torch.rand(2, queries, generator=generator(seed)) < 0.7
        for a, b in zip(compiled(q, k, v, counted), model(q, k, v, counted), strict=True):
            torch.testing.assert_close(a, b)
