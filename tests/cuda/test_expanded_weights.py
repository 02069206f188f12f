"""Weights in every layout of the device: unstructured layers, dense forms, and what expanding does to infinities."""

from __future__ import annotations

import pytest
import torch
from weights import PATTERNS, assert_close, exact_linear, generator, names, random_mask

from sparsecore import resident
from sparsecore.backends.cuda import expand, linear
from sparsecore.formats import pack
from sparsecore.ops.library import outside_autocast
from sparsecore.patterns import NM, Block, Unstructured

LAYOUTS = (*PATTERNS, Block(32, 64), Block(128, 128))


def _weight(pattern, dtype, seed, rows, cols):
    rng = generator(seed)
    mask = random_mask(rows, cols, pattern, rng)
    dense = torch.where(mask, torch.randn(rows, cols, generator=rng), 0).to(dtype)
    stored = pack(dense, pattern)
    return dense, stored.keep_mask(), (pattern.kind, rows, cols, *pattern.sizes), stored


@pytest.mark.parametrize("pattern", LAYOUTS, ids=names)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_layout_comes_back_dense(pattern, dtype, device, seed):
    dense, _, expected, stored = _weight(pattern, dtype, seed, 50, 67)
    packed = resident.make(stored, "cuda").to(device)
    assert torch.equal(expand.to_dense(packed, expected).cpu(), dense)
    assert torch.equal(resident.to_stored(packed).unpack(), dense)


@pytest.mark.parametrize("pattern", [Unstructured(), NM(3, 7), Block(3, 5), Block(32, 32)], ids=names)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_few_and_many_tokens(pattern, dtype, device, seed):
    dense, mask, expected, stored = _weight(pattern, dtype, seed, 41, 130)
    packed = resident.make(stored, "cuda").to(device)
    rng = generator(seed + 1)
    bias = torch.randn(41, generator=rng).to(dtype)
    for tokens in (0, 1, 16, 17):
        x = torch.randn(tokens, 130, generator=rng).to(dtype)
        got = linear.packed_linear(x.to(device), packed, bias.to(device), "none", expected)
        magnitude = exact_linear(x.abs(), dense.abs(), mask, bias.abs())
        assert_close(got.cpu(), exact_linear(x, dense, mask, bias), magnitude, 130)


@pytest.mark.parametrize("pattern", [Unstructured(), NM(2, 4), NM(1, 4), Block(5, 6)], ids=names)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("tokens", [3, 20])
def test_a_pruned_position_adds_nothing_to_infinite_tokens(pattern, dtype, tokens, device, seed):
    dense, mask, expected, stored = _weight(pattern, dtype, seed, 24, 66)
    packed = resident.make(stored, "cuda").to(device)
    x = torch.randn(tokens, 66, generator=generator(seed)).to(dtype)
    x[0, 3], x[1, 10], x[1, 11], x[2, 65] = torch.inf, torch.inf, -torch.inf, torch.nan
    got = linear.packed_linear(x.to(device), packed, None, "none", expected)
    finite = torch.where(x.isfinite(), x, 0)
    magnitude = exact_linear(finite.abs(), dense.abs(), mask, None)
    assert_close(got.cpu(), exact_linear(x, dense, mask, None), magnitude, 66)

    grad = torch.randn(tokens, 24, generator=generator(seed)).to(dtype)
    grad[0, 3], grad[1, 10], grad[2, 23] = torch.inf, -torch.inf, torch.nan
    got = linear.packed_grad_input(grad.to(device), packed, expected)
    finite = torch.where(grad.isfinite(), grad, 0)
    magnitude = exact_linear(finite.abs(), dense.t().abs(), mask.t(), None)
    assert_close(got.cpu(), exact_linear(grad, dense.t(), mask.t(), None), magnitude, 24)


def test_gathered_weights_come_back_dense(device, seed):
    """2:8 where each block of 128 rows keeps values in four columns of a group only."""
    rows, groups, rng = 200, 16, generator(seed)
    used = torch.rand(2, groups, 8, generator=rng).topk(4, -1).indices
    chosen = torch.rand(rows, groups, 4, generator=rng).topk(2, -1).indices
    places = used.repeat_interleave(128, 0)[:rows].gather(2, chosen)
    values = torch.randn(rows, groups, 2, generator=rng, dtype=torch.float32).to(torch.bfloat16)
    dense = torch.zeros(rows, groups, 8, dtype=torch.bfloat16).scatter(2, places, values).reshape(rows, groups * 8)
    packed = resident.make(pack(dense, NM(2, 8)), "cuda").to(device)
    assert resident.check(packed).layout == 1012
    assert torch.equal(expand.to_dense(packed, ("nm", rows, groups * 8, 2, 8)).cpu(), dense)


@pytest.mark.parametrize(("dtype", "lowered"), [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float16)])
def test_autocast_does_not_change_the_types_inside(dtype, lowered, device, seed):
    """Operators run their back ends outside of autocast: the dense product has the type that is repaired."""
    *_, expected, stored = _weight(NM(1, 4), dtype, seed, 33, 70)
    packed = resident.make(stored, "cuda").to(device)
    x, grad = (torch.randn(40, n, generator=generator(seed)).to(dtype).to(device) for n in (70, 33))
    with torch.autocast(device.type, lowered):
        out = outside_autocast(linear.packed_linear)(x, packed, None, "none", expected)
        towards = outside_autocast(linear.packed_grad_input)(grad, packed, expected)
    assert torch.equal(out, linear.packed_linear(x, packed, None, "none", expected))
    assert torch.equal(towards, linear.packed_grad_input(grad, packed, expected))
