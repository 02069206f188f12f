from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from weights import DTYPES, generator

from sparsecore import ops
from sparsecore.backends.reference import attention as reference
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError
from sparsecore.native import core

NAN, INFINITY = float("nan"), float("inf")


def tensors(batch, heads, queries, keys, width, rng, dtype=torch.float32, values=None):
    return tuple(
        torch.randn(batch, heads, tokens, size, generator=rng).to(dtype)
        for tokens, size in ((queries, width), (keys, width), (keys, values or width))
    )


def quantised(x, bits):
    """Integers and scales of the tokens. The division is fp32 by definition: it decides which integer is nearest."""
    limit = 2 ** (bits - 1) - 1
    scale = x.float().abs().amax(-1, keepdim=True) / limit
    scale[scale == 0] = 1
    return torch.round(x.float() / scale).clamp(-limit, limit).double(), scale.double()


def oracle(q, k, v, mask, scale, msb_bits, lsb_bits, needs_lsb):
    """Float64 attention for a given choice of bits; the largest probability of the first pass comes last."""
    qi, qs = quantised(q, msb_bits + lsb_bits)
    ki, ks = quantised(k, msb_bits + lsb_bits)
    high = torch.floor(ki / 2**lsb_bits) * 2**lsb_bits + (2 ** (lsb_bits - 1) if lsb_bits else 0)
    attend = torch.ones(1, 1, 1, k.shape[2], dtype=torch.bool) if mask is None else mask
    passes = []
    for keys in (high, ki):
        weights = torch.exp((qi * qs) @ (keys * ks).transpose(-1, -2) * scale) * attend
        passes.append(weights / weights.sum(-1, keepdim=True).clamp(min=1e-300))
    largest = torch.where(attend.any(-1), passes[0].amax(-1), 2)
    probabilities = torch.where(needs_lsb[..., None], passes[1], passes[0])
    return probabilities @ v.double(), probabilities.sum(2), largest


def check(q, k, v, mask, scale, msb_bits, lsb_bits, threshold):
    out, sums, needs = ops.bitplane_attention(q, k, v, mask, scale, msb_bits, lsb_bits, threshold)
    assert (out.shape, out.dtype) == ((*q.shape[:3], v.shape[3]), q.dtype)
    assert (sums.shape, sums.dtype) == (k.shape[:3], torch.float32)
    assert (needs.shape, needs.dtype) == (q.shape[:3], torch.bool)
    exact, exact_sums, largest = oracle(q, k, v, mask, scale, msb_bits, lsb_bits, needs)
    tolerance = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[q.dtype]
    torch.testing.assert_close(out.double(), exact, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(sums.double(), exact_sums, atol=2e-5 * q.shape[2], rtol=2e-5)
    clear = (largest - threshold).abs() > 1e-5
    expected = (largest < threshold) if lsb_bits and k.shape[2] else torch.zeros_like(needs)
    assert torch.equal(needs[clear], expected[clear])


@pytest.mark.parametrize("bits", [(8, 4), (6, 2), (4, 4), (2, 0), (12, 0), (8, 8), (2, 14)], ids=str)
def test_against_float64(bits, dtype, isa, seed):
    rng = generator(seed)
    for shape in ((1, 1, 1, 1, 1), (2, 3, 5, 7, 16), (1, 2, 33, 70, 33)):
        q, k, v = tensors(*shape, rng, dtype)
        threshold = float(torch.rand((), generator=rng)) * 0.5
        mask = torch.rand(shape[0], 1, 1, shape[3], generator=rng) < 0.8
        pairs = torch.rand(shape[0], 1, shape[2], shape[3], generator=rng) < 0.5
        for chosen in (None, mask, pairs):
            check(q, k, v, chosen, shape[4] ** -0.5, *bits, threshold)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_random_shapes(data):
    core.set_isa(data.draw(st.sampled_from(core.available_isas())))
    rng = generator(data.draw(st.integers(0, 2**31)))
    sizes = [data.draw(st.integers(1, high)) for high in (2, 3, 20, 90, 70)]
    q, k, v = tensors(*sizes, rng, data.draw(st.sampled_from(DTYPES)), data.draw(st.integers(1, 40)))
    mask = torch.rand(sizes[0], 1, data.draw(st.sampled_from([1, sizes[2]])), sizes[3], generator=rng) < 0.7
    check(q, k, v, mask, 0.3, 8, 4, data.draw(st.floats(0, 1)))
    core.set_isa("auto")


@pytest.mark.parametrize("sizes", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)], ids=str)
def test_empty(sizes, isa):
    q, k, v = tensors(*sizes, 8, generator(0))
    out, sums, needs = ops.bitplane_attention(q, k, v, None, 1.0, 8, 4, 0.5)
    assert out.shape == q.shape
    assert not bool(out.any())
    assert not bool(sums.any())
    assert not bool(needs.any())


def test_enough_bits_equal_dense_attention(isa, seed):
    q, k, v = tensors(2, 4, 24, 40, 64, generator(seed))
    mask = torch.rand(2, 1, 1, 40, generator=generator(seed)) < 0.8
    out, sums, needs = ops.bitplane_attention(q, k, v, mask, 0.125, 8, 8, 1.1)
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=0.125)
    torch.testing.assert_close(out, dense, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(sums.sum(-1), torch.full((2, 4), 24.0), atol=1e-4, rtol=1e-4)
    assert bool(needs.all())


def test_thresholds_at_the_ends(isa, seed):
    q, k, v = tensors(1, 2, 9, 12, 16, generator(seed))
    assert not bool(ops.bitplane_attention(q, k, v, None, 0.25, 8, 4, 0.0)[2].any())
    assert bool(ops.bitplane_attention(q, k, v, None, 0.25, 8, 4, 1.1)[2].all())


def test_low_bits_are_read_only_where_needed(isa):
    """Two keys that differ only in their low bits look alike to a query that does not need them."""
    k = torch.tensor([[127.0, 16.0], [127.0, 18.0]]).reshape(1, 1, 2, 2)
    q = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    v = torch.eye(2).reshape(1, 1, 2, 2)
    alike = ops.bitplane_attention(q, k, v, None, 1.0, 4, 4, 0.0)
    assert alike[0].flatten().tolist() == [0.5, 0.5]
    apart = ops.bitplane_attention(q, k, v, None, 1.0, 4, 4, 0.6)
    assert bool(apart[2].all())
    torch.testing.assert_close(apart[0].flatten(), torch.softmax(torch.tensor([16.0, 18.0]), 0))


def test_masked_and_special_tokens(isa, seed):
    q, k, v = tensors(2, 2, 6, 9, 8, generator(seed))
    mask = torch.ones(2, 1, 6, 9, dtype=torch.bool)
    mask[0, 0, 2] = False
    mask[:, :, :, 4] = False
    k[:, :, 4] = NAN
    q[1, 1, 3, 0] = INFINITY
    k[0, 1] = 0
    out, sums, needs = ops.bitplane_attention(q, k, v, mask, 0.35, 8, 4, 0.3)
    assert out[1, 1, 3].isnan().all()
    assert not bool(needs[1, 1, 3])
    out[1, 1, 3] = 0
    assert out.isfinite().all()
    assert not bool(out[0, :, 2].any())
    assert not bool(needs[0, :, 2].any())
    assert not bool(sums[0, :, 4].any())
    torch.testing.assert_close(sums[0].sum(-1), torch.full((2,), 5.0))


def test_compiled_kernels_agree_with_the_reference(dtype, isa, seed):
    rng = generator(seed)
    q, k, v = tensors(2, 3, 20, 70, 48, rng, dtype)
    k[0, 0, 5] = 0
    mask = torch.rand(2, 1, 20, 70, generator=rng) < 0.6
    mine = ops.bitplane_attention(q, k, v, mask, 0.2, 7, 3, 0.15)
    theirs = reference.bitplane_attention(q, k, v, mask, 0.2, 7, 3, 0.15)
    same = mine[2] == theirs[2]
    assert int((~same).sum()) <= 1
    if bool(same.all()):
        for a, b in zip(mine[:2], theirs[:2], strict=True):
            torch.testing.assert_close(a, b, atol=2e-2 if dtype == torch.bfloat16 else 2e-3, rtol=2e-3)


def test_strided_inputs(isa, seed):
    rng = generator(seed)
    q, k, v = (torch.randn(2, 11, 3, 16, generator=rng).transpose(1, 2) for _ in range(3))
    mask = (torch.rand(11, 11, 2, generator=rng) < 0.7).permute(2, 0, 1).unsqueeze(1)
    strided = ops.bitplane_attention(q, k, v, mask, 0.25, 8, 4, 0.3)
    plain = ops.bitplane_attention(*(t.contiguous() for t in (q, k, v, mask)), 0.25, 8, 4, 0.3)
    for a, b in zip(strided, plain, strict=True):
        assert torch.equal(a, b)
    shared = mask[:, :, :1].expand(2, 1, 11, 11)
    for a, b in zip(
        ops.bitplane_attention(q, k, v, shared, 0.25, 8, 4, 0.3),
        ops.bitplane_attention(q, k, v, mask[:, :, :1], 0.25, 8, 4, 0.3),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_same_bits_for_any_number_of_threads(isa, seed):
    q, k, v = tensors(2, 3, 70, 90, 32, generator(seed))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(ops.bitplane_attention(q, k, v, None, 0.2, 8, 4, 0.1))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_permuting_the_keys_permutes_the_sums(isa, seed):
    rng = generator(seed)
    q, k, v = tensors(1, 2, 8, 21, 16, rng)
    order = torch.randperm(21, generator=rng)
    out, sums, needs = ops.bitplane_attention(q, k, v, None, 0.25, 8, 4, 0.2)
    again = ops.bitplane_attention(q, k[:, :, order], v[:, :, order], None, 0.25, 8, 4, 0.2)
    if torch.equal(needs, again[2]):
        torch.testing.assert_close(again[0], out, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(again[1], sums[:, :, order], atol=1e-5, rtol=1e-5)
    # A power of two in k and its inverse in the scale change nothing.
    scaled = ops.bitplane_attention(q, k * 4, v, None, 0.0625, 8, 4, 0.2)
    assert torch.equal(scaled[0], out)


def test_straight_through_gradients(seed):
    """With 16 bits the gradients are those of dense attention up to the quantisation."""
    q, k, v = (t.requires_grad_() for t in tensors(1, 2, 5, 7, 8, generator(seed)))
    mask = torch.ones(1, 1, 5, 7, dtype=torch.bool)
    mask[0, 0, 2] = False
    mask[0, 0, :, 3] = False
    towards = torch.randn(1, 2, 5, 8, generator=generator(seed + 1))
    column = torch.randn(1, 2, 7, generator=generator(seed + 2))
    out, sums, _ = ops.bitplane_attention(q, k, v, mask, 0.35, 8, 8, 1.1)
    mine = torch.autograd.grad((out * towards).sum() + (sums * column).sum(), (q, k, v))
    scores = (q @ k.transpose(-1, -2) * 0.35).masked_fill(~mask, -1e30)
    p = torch.where(mask, torch.softmax(scores, -1), 0)
    theirs = torch.autograd.grad(((p @ v) * towards).sum() + (p.sum(2) * column).sum(), (q, k, v))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)


def test_input_is_checked():
    q, k, v = tensors(2, 3, 4, 5, 8, generator(0))

    def call(q=q, k=k, v=v, mask=None, msb=8, lsb=4):
        ops.bitplane_attention(q, k, v, mask, 1.0, msb, lsb, 0.1)

    for wrong in ({"q": q[0]}, {"k": k[:1]}, {"k": k[..., :4]}, {"v": v[:, :, :4]}):
        with pytest.raises(ShapeError, match="q, k, v are"):
            call(**wrong)
    with pytest.raises(DtypeError):
        call(v=v.half())
    with pytest.raises(DtypeError, match="mask"):
        call(mask=torch.ones(2, 1, 1, 5))
    for shape in ((2, 1, 1, 4), (2, 3, 4, 5), (1, 1, 1, 5), (2, 1, 3, 5), (5,)):
        with pytest.raises(ShapeError, match="mask"):
            call(mask=torch.ones(shape, dtype=torch.bool))
    for msb, lsb in ((1, 4), (8, -1), (8, 9), (17, 0)):
        with pytest.raises(InvalidValueError, match="bits"):
            call(msb=msb, lsb=lsb)


def test_float64_falls_to_the_reference(seed):
    q, k, v = tensors(1, 2, 4, 6, 8, generator(seed), torch.float64)
    out, _, _ = ops.bitplane_attention(q, k, v, None, 0.3, 8, 4, 0.3)
    assert out.dtype == torch.float64
    assert torch.equal(out, reference.bitplane_attention(q, k, v, None, 0.3, 8, 4, 0.3)[0])


def test_opcheck(seed):
    mask = torch.rand(2, 1, 4, 5, generator=generator(seed)) < 0.7
    for gradients in (True, False):
        q, k, v = (t.requires_grad_(gradients) for t in tensors(2, 3, 4, 5, 8, generator(seed)))
        torch.library.opcheck(ops.bitplane_attention, (q, k, v, mask, 0.3, 8, 4, 0.3))


def test_compile_with_dynamic_lengths(seed):
    torch.compiler.reset()

    def model(q, k, v):
        return ops.bitplane_attention(q, k, v, None, 0.3, 8, 4, 0.2)[0].sin()

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for queries, keys in ((3, 5), (7, 9), (4, 4)):
        q, k, v = tensors(2, 3, queries, keys, 8, generator(seed))
        torch.testing.assert_close(compiled(q, k, v), model(q, k, v))
