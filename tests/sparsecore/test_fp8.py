"""fp8 weights: e4m3 rounding by its definition, sums rounded once, the two scales, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from weights import DTYPES, PATTERNS, generator, names, random_weight

import sparsecore as sc
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError
from sparsecore.packed import PackedWeight
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.quantise import output_error

FP8 = torch.float8_e4m3fn
KINDS = (NM(2, 4), NM(1, 4), Unstructured(), Block(4, 8))
INFINITY, NAN = float("inf"), float("nan")


def value_of(code: int) -> float:
    """What 8 bits mean, from the definition: four bits of exponent with bias 7, three of fraction."""
    exponent, fraction = code >> 3 & 15, code & 7
    size = (8 + fraction) * 2.0 ** (exponent - 10) if exponent else fraction * 2.0**-9
    return -size if code & 0x80 else size


# All finite numbers in the order of their codes, so that an even index is an even code.
NUMBERS = torch.tensor([value_of(code) for code in range(0x7F)], dtype=torch.float64)


def nearest(quotients: Tensor) -> Tensor:
    """The e4m3 number nearest to each fp32 quotient, of two equally near ones that with the even code, as float64."""
    size = quotients.double().abs().clamp(max=448)
    above = torch.searchsorted(NUMBERS, size).clamp(max=0x7E)
    below = (above - 1).clamp(min=0)
    up, down = NUMBERS[above] - size, size - NUMBERS[below]
    code = torch.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    return NUMBERS[code] * quotients.double().sign()


def scale_of(row: Tensor) -> Tensor:
    amax = row.abs().max() if len(row) else torch.tensor(0.0)
    return torch.tensor(1.0) if amax / 448 == 0 else amax / 448


def fp8_weight(rows: int, cols: int, pattern: Pattern, rng: torch.Generator) -> PackedWeight:
    dense = random_weight(rows, cols, pattern, rng)
    if rows > 2:
        dense[int(torch.randint(rows, (1,), generator=rng))] = 0
    return PackedWeight.from_dense(dense, pattern, FP8)


def expected(x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
    """The layer written out: sums as integers of 2^-18, then the three fp32 steps."""
    q, w_scales = weight.stored().unpack_quantised()
    whole = (q.double() * 2**9).long()
    rows = []
    for token in x.float():
        scale = scale_of(token) if bool(token.isfinite().all()) else torch.tensor(NAN)
        quantised = nearest(token / scale) if not scale.isnan() else torch.zeros(len(token), dtype=torch.float64)
        sums = (whole * (quantised * 2**9).long()).sum(1).double() / 2**18
        rows.append(sums.float() * (scale * w_scales))
    total = torch.stack(rows) if rows else torch.zeros(0, weight.shape[0])
    return (total if bias is None else total + bias.float()).to(x.dtype)


def assert_same(actual: Tensor, wanted: Tensor) -> None:
    assert actual.dtype == wanted.dtype
    torch.testing.assert_close(actual, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
def test_outputs_are_exact_on_every_instruction_set(pattern, dtype, isa, seed):
    rng = generator(seed)
    sizes = [(1, 1, 1), (3, 5, 7), (0, 16, 8), (2, 0, 8), (2, 8, 0), (17, 48, 130)]
    for tokens, rows, cols in [*sizes, *torch.randint(1, 90, (2, 3), generator=rng).tolist()]:
        weight = fp8_weight(rows, cols, pattern, rng)
        x = (torch.randn(tokens, cols, generator=rng) * 10 ** float(torch.randn(1, generator=rng))).to(dtype)
        bias = torch.randn(rows, generator=rng)
        assert_same(weight.linear(x), expected(x, weight))
        assert_same(weight.linear(x, bias), expected(x, weight, bias))
        assert_same(weight.linear(x, bias.to(dtype)), expected(x, weight, bias.to(dtype)))


def test_long_rows_threads_strides_and_ranks(seed):
    rng = generator(seed)
    for tokens, rows, cols in ((150, 70, 260), (2, 20, 20000)):
        weight = fp8_weight(rows, cols, Unstructured(), rng)
        x = torch.randn(cols, tokens, generator=rng).t()
        got = weight.linear(x)
        assert_same(got, expected(x, weight))
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        assert_same(weight.linear(x), got)
        torch.set_num_threads(before)
        assert_same(weight.linear(x.reshape(1, tokens, cols)), got[None])


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_tokens_that_are_not_finite_tiny_or_zero(pattern, dtype, seed):
    rng = generator(seed)
    weight = fp8_weight(33, 70, pattern, rng)
    x = torch.randn(8, 70, generator=rng).to(dtype)
    x[1, 3], x[2, 69] = NAN, -INFINITY
    x[3] = 0
    x[4] = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # the smallest subnormal
    x[5] = x[4] * torch.randint(-1000, 1000, (70,), generator=rng).to(dtype)
    x[6] = torch.finfo(dtype).max
    y = weight.linear(x)
    assert bool(y[1:3].isnan().all())
    assert not bool(y[[0, 3, 7]].isnan().any())
    assert not bool(y[3].any())
    assert_same(y, expected(x, weight))


def test_every_number_is_rounded_to_the_nearest(seed):
    """All e4m3 numbers, the middles between them and what lies next to either; beyond 448 the largest is taken."""
    middles = (NUMBERS[1:] + NUMBERS[:-1]) / 2
    some = torch.cat([NUMBERS, middles]).float()
    some = torch.cat([some, some.nextafter(torch.tensor(INFINITY)), some.nextafter(torch.tensor(0.0))])
    some = torch.cat([some, -some])
    some[0] = 448  # so that the scale is 1
    some = some.clamp(-448, 448)
    stored = sc.pack(some[None], Unstructured(), FP8)
    assert stored.tensors["scales"].tolist() == [1.0]
    assert torch.equal(stored.unpack_quantised()[0][0].double(), nearest(some))
    diagonal = PackedWeight.from_dense(448 * torch.eye(len(some)), Unstructured(), FP8)  # with the scale 1
    assert torch.equal(diagonal.linear(some[None]).double() / 448, nearest(some)[None])


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
@pytest.mark.parametrize("source", DTYPES, ids=["f32", "f16", "bf16"])
def test_weights_are_rounded_row_by_row_and_come_back(pattern, source, isa, seed):
    rng = generator(seed)
    for rows, cols in ((33, 70), (1, 5), (0, 8), (8, 0)):
        dense = random_weight(rows, cols, pattern, rng, source)
        stored = sc.pack(dense, pattern, FP8)
        q, scales = stored.unpack_quantised()
        assert q.dtype is FP8
        assert torch.equal(scales, torch.stack([scale_of(row.float()) for row in dense]) if rows else torch.zeros(0))
        assert torch.equal(q.double(), nearest(dense.float() / scales[:, None]))
        assert torch.equal(stored.unpack(), q.float() * scales[:, None])
        assert torch.equal(stored.keep_mask(), sc.pack(dense, pattern).keep_mask())
        packed = PackedWeight.from_stored(stored)
        for key, tensor in stored.tensors.items():
            assert torch.equal(packed.stored().tensors[key].view(torch.uint8), tensor.view(torch.uint8))
        assert torch.equal(packed.to_dense(), stored.unpack())
        assert packed.nbytes <= 1.15 * stored.nbytes + 4096
        back = stored.to(dtype=source)
        assert torch.equal(back.unpack(), stored.unpack().to(source))
        assert torch.equal(back.keep_mask(), stored.keep_mask())
        other = stored.to(dtype=torch.int8)
        assert torch.equal(other.unpack(), sc.pack(dense, pattern).to(dtype=FP8).to(dtype=torch.int8).unpack())
        assert other.dtype is torch.int8 and torch.equal(other.keep_mask(), stored.keep_mask())


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_bad_stored_tensors_are_refused_by_name(pattern, seed):
    stored = sc.pack(random_weight(20, 64, pattern, generator(seed)), pattern, FP8)
    values = "blocks" if isinstance(pattern, Block) else "compressed"

    def changed(name: str, tensor: Tensor) -> None:
        sc.from_tensors({**stored.tensors, name: tensor})

    scales = stored.tensors["scales"]
    for wrong in (0.0, -1.0, NAN, INFINITY):
        bad = scales.clone()
        bad[7] = wrong
        with pytest.raises(InvalidValueError, match="scale of row 7"):
            changed("scales", bad)
    with pytest.raises(DtypeError, match="scales"):
        changed("scales", scales.bfloat16())
    for code in (0x7F, 0xFF):
        nan = stored.tensors[values].view(torch.uint8).clone()
        nan.view(-1)[5] = code
        with pytest.raises(InvalidValueError, match="NaN"):
            changed(values, nan.view(FP8))
    with pytest.raises(DtypeError, match="float8_e5m2"):
        changed(values, stored.tensors[values].float().to(torch.float8_e5m2))
    with pytest.raises(ShapeError, match="other tensors"):
        sc.from_tensors({name: tensor for name, tensor in stored.tensors.items() if name != "scales"})


def test_bad_weights_and_calls(seed):
    dense = random_weight(8, 16, NM(2, 4), generator(seed))
    weight = PackedWeight.from_dense(dense, "2:4", FP8)
    bad = dense.clone()
    bad[3, int(dense[3].abs().argmax())] = INFINITY
    with pytest.raises(InvalidValueError, match="no scale"):
        PackedWeight.from_dense(bad, "2:4", FP8)
    for x in (torch.ones(2, 16).to(FP8), torch.ones(2, 16, dtype=torch.float64)):
        with pytest.raises(DtypeError):
            weight.linear(x)
    with pytest.raises(DtypeError, match="float8_e4m3fn"):
        weight.linear(torch.ones(2, 16), torch.ones(8, dtype=torch.bfloat16))
    with pytest.raises(DtypeError, match="float8_e4m3fn"):
        sc.pack(dense, "2:4").unpack_quantised()
    with pytest.raises(ShapeError, match="133145 columns"):
        sc.pack(torch.ones(1, 133145), Block(1, 1), FP8)


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_gradient_is_that_of_the_dequantised_weight(pattern, seed):
    rng = generator(seed)
    weight = fp8_weight(24, 40, pattern, rng)
    x = torch.randn(5, 40, generator=rng, requires_grad=True)
    out = torch.randn(5, 24, generator=rng)
    weight.linear(x).backward(out)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, out @ weight.to_dense())


def test_error_against_fp32_is_that_of_four_bits(seed):
    """Each factor is off by at most 1/16 of itself, by 1/40 or so in the mean."""
    rng = generator(seed)
    layer = torch.nn.Linear(256, 64)
    with torch.no_grad():
        layer.weight.copy_(random_weight(64, 256, NM(2, 4), rng))
    x = torch.randn(40, 256, generator=rng)
    assert 0.01 < output_error(sc.nn.SparseLinear.from_dense(layer, "2:4", FP8), layer, x) < 0.06
