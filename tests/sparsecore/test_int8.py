"""int8 weights: exact sums on every instruction set, the two scales, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from weights import DTYPES, PATTERNS, generator, names, random_mask, random_weight

import sparsecore as sc
from sparsecore.backends.reference import linear, quantised
from sparsecore.errors import DtypeError, InvalidValueError, PatternError, ShapeError
from sparsecore.formats import StoredWeight
from sparsecore.packed import PackedWeight
from sparsecore.patterns import NM, Block, Pattern, Unstructured

KINDS = (NM(2, 4), NM(1, 4), NM(4, 8), Unstructured(), Block(4, 8), Block(32, 32))
INFINITY, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def int8_weight(rows: int, cols: int, pattern: Pattern, rng: torch.Generator, dtype=torch.float32) -> PackedWeight:
    dense = random_weight(rows, cols, pattern, rng, dtype)
    if rows > 2:
        dense[int(torch.randint(rows, (1,), generator=rng))] = 0
    return PackedWeight.from_dense(dense, pattern, torch.int8)


def expected(x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
    """The layer written out: python's rule of rounding, int64 sums, then the three fp32 steps."""
    q, w_scales = weight.stored().unpack_quantised()
    rows = []
    for token in x.float():
        amax = token.abs().max() if len(token) else torch.tensor(0.0)
        scale = amax / 127
        scale = torch.tensor(1.0) if scale == 0 else scale
        if amax.isfinite():
            quantised = [max(-127, min(127, round(value))) for value in (token / scale).tolist()]
        else:
            quantised, scale = [0] * len(token), torch.tensor(NAN)
        sums = (q.long() * torch.tensor(quantised, dtype=torch.int64)).sum(1)
        rows.append(sums.float() * (scale * w_scales))
    total = torch.stack(rows) if rows else torch.zeros(0, weight.shape[0])
    return (total if bias is None else total + bias.float()).to(x.dtype)


def assert_same(actual: Tensor, wanted: Tensor) -> None:
    assert actual.dtype == wanted.dtype
    torch.testing.assert_close(actual, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
def test_outputs_are_exact_on_every_instruction_set(pattern, dtype, isa, seed):
    rng = generator(seed)
    sizes = [(1, 1, 1), (3, 5, 7), (0, 16, 8), (2, 0, 8), (2, 8, 0), (1, 33, 65), (17, 48, 130), (5, 100, 96)]
    for tokens, rows, cols in [*sizes, *torch.randint(1, 140, (3, 3), generator=rng).tolist()]:
        weight = int8_weight(rows, cols, pattern, rng)
        x = (torch.randn(tokens, cols, generator=rng) * 10 ** float(torch.randn(1, generator=rng))).to(dtype)
        bias = torch.randn(rows, generator=rng)
        assert_same(weight.linear(x), expected(x, weight))
        assert_same(weight.linear(x, bias), expected(x, weight, bias))
        assert_same(weight.linear(x, bias.to(dtype)), expected(x, weight, bias.to(dtype)))


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_many_tokens_and_long_rows(pattern, isa, seed):
    rng = generator(seed)
    for tokens, rows, cols in ((150, 70, 260), (13, 40, 4200), (2, 20, 20000)):
        weight = int8_weight(rows, cols, pattern, rng)
        x = torch.randn(tokens, cols, generator=rng)
        got = weight.linear(x)
        assert_same(got, quantised.linear(x, *weight.stored().unpack_quantised(), None, lambda y: y))
        torch.set_num_threads(3)
        assert_same(weight.linear(x), got)
        torch.set_num_threads(1)


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_nothing_saturates(pattern, isa, seed):
    """Every product is +-127 * 127, and all of a row have one sign."""
    rng = generator(seed)
    rows, cols = 37, 3000
    mask = random_mask(rows, cols, pattern, rng)
    signs = (torch.rand(rows, 1, generator=rng) < 0.5) * 2.0 - 1
    weight = PackedWeight.from_dense(torch.where(mask, signs.expand(rows, cols), 0.0), pattern, torch.int8)
    x = torch.cat([torch.ones(5, cols), -torch.ones(5, cols)])
    kept = weight.stored().keep_mask() & (weight.to_dense() != 0)
    exact = signs[:, 0] * kept.sum(1) * x[:, :1]
    torch.testing.assert_close(weight.linear(x), exact, rtol=1e-6, atol=1e-6)
    assert_same(weight.linear(x), expected(x, weight))


def test_the_widest_weight(isa, seed):
    rng = generator(seed)
    cols = (2**31 - 1) // 127**2
    dense = torch.ones(2, cols)
    dense[1, 1::2] = 0
    dense[0, :3] = 0
    weight = PackedWeight.from_dense(dense, Unstructured(), torch.int8)
    x = torch.ones(1, cols) * float(torch.rand(1, generator=rng) + 0.5)
    assert_same(weight.linear(x), expected(x, weight))
    with pytest.raises(ShapeError, match="133145 columns"):
        sc.pack(torch.ones(1, cols + 1), Block(1, 1), torch.int8)


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_tokens_that_are_not_finite_tiny_or_zero(pattern, dtype, isa, seed):
    rng = generator(seed)
    weight = int8_weight(33, 70, pattern, rng)
    x = torch.randn(9, 70, generator=rng).to(dtype)
    x[1, 3], x[2, 69], x[3, 0] = NAN, INFINITY, -INFINITY
    x[4] = 0
    x[5] = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # the smallest subnormal
    x[6] = x[5] * torch.randint(-300, 300, (70,), generator=rng).to(dtype)
    x[7] = torch.finfo(dtype).max
    y = weight.linear(x)
    assert bool(y[1:4].isnan().all())
    assert not bool(y[[0, 4, 8]].isnan().any())
    assert not bool(y[4].any())
    assert_same(y, expected(x, weight))
    assert bool(weight.linear(x[1:4], activation="relu").isnan().all())


@pytest.mark.parametrize("activation", sorted(linear.ACTIVATIONS))
def test_activations(activation, dtype, isa, seed):
    rng = generator(seed)
    weight = int8_weight(70, 50, NM(2, 4), rng)
    x, bias = torch.randn(20, 50, generator=rng).to(dtype), torch.randn(70, generator=rng)
    before = expected(x.float(), weight, bias)  # in fp32
    wanted = linear.ACTIVATIONS[activation](before.double())
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(weight.linear(x, bias, activation).double(), wanted, rtol=unit + 1e-5, atol=1e-6)


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_strides_and_ranks(pattern, isa, seed):
    rng = generator(seed)
    weight = int8_weight(20, 72, pattern, rng)
    base = torch.randn(8, 144, generator=rng)
    views = (base[:, ::2], base[::3, :72], base[1:, 5:77], torch.randn(72, 8, generator=rng).t())
    for x in (*views, torch.randn(72, generator=rng).expand(4, 72), torch.randn(3, 1, generator=rng).expand(3, 72)):
        assert_same(weight.linear(x), expected(x, weight))
    deep = torch.randn(2, 3, 72, generator=rng)
    assert_same(weight.linear(deep), weight.linear(deep.reshape(6, 72)).reshape(2, 3, 20))
    assert weight.linear(torch.randn(72)).shape == (20,)


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
@pytest.mark.parametrize("source", DTYPES, ids=["f32", "f16", "bf16"])
def test_weights_are_rounded_row_by_row_and_come_back(pattern, source, isa, seed):
    rng = generator(seed)
    for rows, cols in ((33, 70), (1, 5), (16, 64), (0, 8), (8, 0)):
        dense = random_weight(rows, cols, pattern, rng, source)
        stored = sc.pack(dense, pattern, torch.int8)
        q, scales = stored.unpack_quantised()
        amax = dense.float().abs().amax(1) if cols else torch.zeros(rows)
        assert torch.equal(scales, torch.where(amax > 0, amax / 127, 1))
        assert torch.equal(q, (dense.float() / scales[:, None]).round().to(torch.int8))
        assert torch.equal(stored.unpack(), q.float() * scales[:, None])
        assert torch.equal(stored.keep_mask(), sc.pack(dense, pattern).keep_mask())
        packed = PackedWeight.from_stored(stored)
        assert all(torch.equal(packed.stored().tensors[key], tensor) for key, tensor in stored.tensors.items())
        assert torch.equal(packed.to_dense(), stored.unpack())
        back = stored.to(dtype=source)
        assert torch.equal(back.unpack(), stored.unpack().to(source))
        assert torch.equal(back.keep_mask(), stored.keep_mask())


def test_a_2_4_weight_takes_at_most_a_third_of_bf16(seed):
    stored = sc.pack(random_weight(96, 768, NM(2, 4), generator(seed)), "2:4", torch.int8)
    assert stored.nbytes <= 0.32 * 96 * 768 * 2
    assert PackedWeight.from_stored(stored).nbytes <= 1.15 * stored.nbytes + 4096


def test_what_a_resident_weight_holds(isa, seed):
    rng = generator(seed)
    for pattern in PATTERNS:
        stored = sc.pack(random_weight(64, 256, pattern, rng), pattern, torch.int8)
        limit = 1.25 if isinstance(pattern, Unstructured) else 1.15
        assert PackedWeight.from_stored(stored).nbytes <= limit * stored.nbytes + 4096, pattern.name


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_bad_stored_tensors_are_refused_by_name(pattern, seed):
    dense = random_weight(20, 64, pattern, generator(seed))
    if not dense.any():  # 32x32: every block may be pruned
        dense[0, 0] = 1
    stored = sc.pack(dense, pattern, torch.int8)
    values = "blocks" if isinstance(pattern, Block) else "compressed"

    def changed(name: str, tensor: Tensor) -> None:
        sc.from_tensors({**stored.tensors, name: tensor})

    scales = stored.tensors["scales"]
    for wrong in (0.0, -1.0, NAN, INFINITY, -INFINITY):
        bad = scales.clone()
        bad[7] = wrong
        with pytest.raises(InvalidValueError, match="scale of row 7"):
            changed("scales", bad)
    for bad in (scales[:-1], scales[:, None], torch.cat([scales, scales])):
        with pytest.raises(ShapeError, match="scales"):
            changed("scales", bad)
    for kind in (torch.float64, torch.bfloat16, torch.int32):
        with pytest.raises(DtypeError, match="scales"):
            changed("scales", scales.to(kind))
    lowest = stored.tensors[values].clone()
    lowest.view(-1)[5] = -128
    with pytest.raises(InvalidValueError, match="-128"):
        changed(values, lowest)
    with pytest.raises(DtypeError):
        changed(values, stored.tensors[values].to(torch.uint8))
    with pytest.raises(ShapeError, match="other tensors"):
        changed(values, stored.tensors[values].float())
    with pytest.raises(ShapeError, match="other tensors"):
        sc.from_tensors({name: tensor for name, tensor in stored.tensors.items() if name != "scales"})
    with pytest.raises(DtypeError):
        StoredWeight(pattern, (20, 64), torch.int16, stored.tensors)


def test_bad_weights_and_calls(isa, seed):
    dense = random_weight(8, 16, NM(2, 4), generator(seed))
    weight = PackedWeight.from_dense(dense, "2:4", torch.int8)
    for value in (NAN, INFINITY):
        bad = dense.clone()
        bad[3, int(dense[3].abs().argmax())] = value
        with pytest.raises(InvalidValueError, match="no scale"):
            PackedWeight.from_dense(bad, "2:4", torch.int8)
    with pytest.raises(PatternError):
        PackedWeight.from_dense(torch.ones(8, 16), "2:4", torch.int8)
    for x in (torch.ones(2, 16, dtype=torch.int8), torch.ones(2, 16, dtype=torch.float64)):
        with pytest.raises(DtypeError):
            weight.linear(x)
    with pytest.raises(DtypeError):
        weight.linear(torch.ones(2, 16), torch.ones(8, dtype=torch.bfloat16))
    with pytest.raises(DtypeError):
        sc.pack(dense, "2:4").unpack_quantised()


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_gradient_is_that_of_the_dequantised_weight(pattern, isa, seed):
    rng = generator(seed)
    weight = int8_weight(24, 40, pattern, rng)
    dense = weight.to_dense()
    x = torch.randn(5, 40, generator=rng, requires_grad=True)
    out = torch.randn(5, 24, generator=rng)
    weight.linear(x).backward(out)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, out @ dense)
    half = torch.randn(5, 40, generator=rng).bfloat16().requires_grad_()
    weight.linear(half).backward(out.bfloat16())
    assert half.grad is not None and half.grad.dtype is torch.bfloat16
    torch.testing.assert_close(half.grad.float(), out.bfloat16().float() @ dense, rtol=2**-8, atol=1e-4)


def test_error_against_fp32_is_small_and_scales_do_not_matter(seed):
    from sparsecore.quantise import output_error

    rng = generator(seed)
    layer = torch.nn.Linear(256, 64)
    with torch.no_grad():
        layer.weight.copy_(random_weight(64, 256, NM(2, 4), rng))
    sparse = sc.nn.SparseLinear.from_dense(layer, "2:4", torch.int8)
    x = torch.randn(40, 256, generator=rng)
    assert 0 < output_error(sparse, layer, x) < 0.02
    # A power of two moves both scales and nothing else.
    other = PackedWeight.from_dense(layer.weight.detach() * 8, "2:4", torch.int8)
    assert torch.equal(other.linear(x / 4) * 0.5, sparse.packed.linear(x))
    assert math.isinf(output_error(sparse, torch.nn.Linear(256, 64).apply(_zero), x))


def _zero(module: torch.nn.Module) -> None:
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
