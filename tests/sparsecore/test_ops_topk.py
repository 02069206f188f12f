from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from weights import DTYPES, generator

from sparsecore import ops
from sparsecore.backends.reference import topk as reference
from sparsecore.errors import InvalidValueError, ShapeError
from sparsecore.native import core

INFINITY, NAN = float("inf"), float("nan")


def chosen(row, k):
    """The definition, one row at a time: NaN first, then by value, equal values by index; ascending indices."""
    order = sorted(range(len(row)), key=lambda i: (not np.isnan(row[i]), 0 if np.isnan(row[i]) else -row[i], i))
    return sorted(order[:k])


def check(x, k):
    values, indices = ops.topk_select(x, k)
    rows = x.double().reshape(-1, x.shape[-1]).numpy() if x.shape[-1] else np.zeros((0, 0))
    expected = torch.tensor([chosen(row, k) for row in rows], dtype=torch.int64).reshape(*x.shape[:-1], k)
    assert indices.dtype == torch.int64
    assert torch.equal(indices, expected)
    assert torch.equal(values.nan_to_num(nan=7), x.gather(-1, indices).nan_to_num(nan=7))
    if k:
        threshold = ops.topk_threshold(x, k)
        least = torch.where(values.isnan().all(-1), NAN, values.where(~values.isnan(), INFINITY).amin(-1))
        torch.testing.assert_close(threshold, least.to(x.dtype), equal_nan=True, rtol=0, atol=0)


def random_rows(shape, rng, dtype):
    """Rows full of ties: few distinct values, zeros of both signs, infinities and NaN."""
    palette = torch.tensor([0.0, -0.0, 1.0, -1.0, 2.5, INFINITY, -INFINITY, NAN, 1e-30, 3.0, 0.5])
    x = torch.randn(shape, generator=rng)
    tied = torch.rand(shape, generator=rng) < torch.rand((), generator=rng)
    x[tied] = palette[torch.randint(len(palette), (int(tied.sum()),), generator=rng)]
    return x.to(dtype)


def test_against_the_definition(dtype, isa, seed):
    rng = generator(seed)
    for rows, n in ((1, 1), (3, 2), (5, 7), (2, 16), (4, 33), (1, 130), (2, 1000), (0, 5), (2, 63), (7, 65)):
        for k in {0, 1, n // 2, n - 1, n}:
            check(random_rows((rows, n), rng, dtype), k)
    check(torch.zeros(3, 0, dtype=dtype), 0)


def test_long_rows(dtype, isa, seed):
    """Searched from a sample, few of them from candidates alone; with ties where the result is cut."""
    rng = generator(seed)
    n = 20011
    for x in (
        torch.randn(n, generator=rng).to(dtype),
        torch.randn(n, generator=rng).relu().round(decimals=1).to(dtype),
    ):
        for k in (1, n // 100, n // 3, n - 5):
            values, indices = ops.topk_select(x, k)
            expected = reference.topk_select(x, k)
            assert torch.equal(values, expected[0])
            assert torch.equal(indices, expected[1])
            assert torch.equal(ops.topk_threshold(x, k), reference.topk_threshold(x, k))


def test_denormals_keep_their_order_where_torch_flushes_them(dtype, isa):
    bits = torch.int32 if dtype is torch.float32 else torch.int16
    x = torch.arange(40, dtype=bits).view(dtype)[None]
    try:
        torch.set_flush_denormal(True)
        indices = ops.topk_select(x, 7)[1]
    finally:
        torch.set_flush_denormal(False)
    assert indices.tolist() == [list(range(33, 40))]


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_random_rows(data):
    core.set_isa(data.draw(st.sampled_from(core.available_isas())))
    rng = generator(data.draw(st.integers(0, 2**31)))
    n = data.draw(st.integers(1, 200))
    x = random_rows((data.draw(st.integers(1, 4)), n), rng, data.draw(st.sampled_from(DTYPES)))
    check(x, data.draw(st.integers(0, n)))
    core.set_isa("auto")


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_laws(data):
    """Without ties a permutation of the row permutes the choice; doubling it changes nothing."""
    rng = generator(data.draw(st.integers(0, 2**31)))
    n = data.draw(st.integers(1, 100))
    k = data.draw(st.integers(1, n))
    x = torch.randperm(n, generator=rng).float()[None]
    order = torch.randperm(n, generator=rng)
    values, indices = ops.topk_select(x, k)
    permuted, places = ops.topk_select(x[:, order], k)
    assert torch.equal(order[places].sort().values, indices)
    assert torch.equal(permuted.sort().values, values.sort().values)
    assert torch.equal(ops.topk_select(x * 2, k)[1], indices)


def test_other_dtypes_fall_to_the_reference(seed):
    rng = generator(seed)
    check(random_rows((3, 20), rng, torch.float64), 7)
    x = torch.randint(-3, 3, (4, 15), generator=rng)
    values, indices = ops.topk_select(x, 6)
    assert torch.equal(values, x.gather(-1, indices))
    assert torch.equal(indices, ops.topk_select(x.float(), 6)[1])
    assert torch.equal(ops.topk_threshold(x, 6), values.amin(-1))


def test_any_rank_and_strides(isa, seed):
    rng = generator(seed)
    base = torch.randn(2, 3, 40, 5, generator=rng)
    for x in (base[0, 0, :, 0], base[..., ::2], base.transpose(-1, -2), base[:, 1:, ::3], base[:, :0, :, ::2]):
        values, indices = ops.topk_select(x, 2)
        expected = reference.topk_select(x.contiguous(), 2)
        assert values.shape == (*x.shape[:-1], 2)
        assert torch.equal(values, expected[0])
        assert torch.equal(indices, expected[1])
        assert torch.equal(ops.topk_threshold(x, 2), reference.topk_threshold(x, 2))


def test_k_is_checked():
    x = torch.zeros(2, 5)
    for k in (-1, 6):
        with pytest.raises(InvalidValueError, match=f"k is {k}"):
            ops.topk_select(x, k)
    for k in (0, 6):
        with pytest.raises(InvalidValueError, match=f"k is {k}"):
            ops.topk_threshold(x, k)
    with pytest.raises(ShapeError):
        ops.topk_select(torch.tensor(1.0), 1)


def test_gradient_goes_to_the_chosen(seed):
    x = torch.randn(3, 4, 9, generator=generator(seed), requires_grad=True)
    values, indices = ops.topk_select(x, 4)
    towards = torch.randn(3, 4, 4, generator=generator(seed))
    values.backward(towards)
    assert torch.equal(x.grad, torch.zeros(3, 4, 9).scatter(-1, indices, towards))
    assert not indices.requires_grad
    assert not ops.topk_threshold(x, 2).requires_grad


@pytest.mark.parametrize("name", ["topk_select", "topk_threshold"])
def test_opcheck(name):
    operator = getattr(torch.ops.sparsecore, name).default
    for gradients in (True, False):
        x = torch.randn(2, 3, 9, requires_grad=gradients)
        torch.library.opcheck(operator, (x, 4))
        dispatched, direct = operator(x.detach(), 4), getattr(ops, name)(x.detach(), 4)
        assert all(map(torch.equal, dispatched, direct))


def test_compile_with_a_dynamic_batch_and_k():
    def model(x):
        values, indices = ops.topk_select(x, x.shape[-1] // 2)
        return values * 2, indices, ops.topk_threshold(x, 1)

    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((2, 8), (5, 12), (7, 20)):
        x = torch.randn(shape)
        for mine, theirs in zip(compiled(x), model(x), strict=True):
            assert torch.equal(mine, theirs)


def test_threads_give_the_same(isa, seed):
    x = random_rows((300, 257), generator(seed), torch.float32)
    threads = torch.get_num_threads()
    expected = ops.topk_select(x, 100)[1]
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(ops.topk_select(x, 100)[1], expected)
    finally:
        torch.set_num_threads(threads)
    results = []
    workers = [threading.Thread(target=lambda: results.append(ops.topk_select(x, 100)[1])) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    assert all(torch.equal(result, expected) for result in results)
