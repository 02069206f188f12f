from __future__ import annotations

import multiprocessing
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from weights import DTYPES, PATTERNS, assert_close, exact_linear, generator, names, random_mask, random_weight

from sparsecore import PackedWeight, ops
from sparsecore.backends.reference import linear as reference
from sparsecore.native import core
from sparsecore.patterns import NM, Block, Unstructured

KINDS = (NM(2, 4), NM(1, 4), Unstructured(), Block(4, 8))
INFINITY, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def _one_thread():
    """Small products on a busy machine mostly wait for a second thread; the tests about threads ask for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def check(dense, weight, x, bias, activation="none"):
    """The layer against float64 sums over the kept positions, for x [tokens, in]."""
    mask = weight.stored().keep_mask()
    exact = exact_linear(x, dense, mask, bias)
    magnitude = exact_linear(x.abs(), dense.abs(), mask, None if bias is None else bias.abs())
    actual = weight.linear(x, bias, activation)
    assert actual.dtype == x.dtype
    # The slope of every activation here is below 1.13, so that errors before it do not grow by more.
    assert_close(actual, reference.ACTIVATIONS[activation](exact), 1.13 * magnitude + 1e-6, x.shape[1])


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
def test_against_float64(pattern, dtype, isa, seed):
    rng = generator(seed)
    sizes = [(1, 1, 1), (3, 5, 7), (0, 16, 8), (2, 0, 8), (2, 8, 0), (1, 33, 65), (17, 48, 130), (5, 100, 96)]
    for tokens, rows, cols in [*sizes, *torch.randint(1, 70, (3, 3), generator=rng).tolist()]:
        dense = random_weight(rows, cols, pattern, rng, dtype)
        weight = PackedWeight.from_dense(dense, pattern)
        x = torch.randn(tokens, cols, generator=rng).to(dtype)
        bias = torch.randn(rows, generator=rng).to(dtype)
        check(dense, weight, x, bias if tokens % 2 else None)


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_many_tokens_and_long_rows(pattern, isa, seed):
    rng = generator(seed)
    for tokens, rows, cols in ((150, 36, 200), (3, 20, 5000)):
        dense = random_weight(rows, cols, pattern, rng)
        weight = PackedWeight.from_dense(dense, pattern)
        check(dense, weight, torch.randn(tokens, cols, generator=rng), torch.randn(rows, generator=rng))


def test_unstructured_densities_and_token_counts(dtype, isa, seed):
    """Every way through the kernels: few tokens, one and two vectors, tiles; lists and bitmask; empty and full rows."""
    rng = generator(seed)
    rows, cols = 37, 300
    for density in (0.0, 0.02, 0.1, 0.25, 0.5, 1.0):
        dense = torch.randn(rows, cols, generator=rng) * (torch.rand(rows, cols, generator=rng) < density)
        dense[3], dense[5] = 0, 1
        dense = dense.to(dtype)
        weight = PackedWeight.from_dense(dense, Unstructured())
        for tokens in (1, 2, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 130):
            check(dense, weight, torch.randn(tokens, cols, generator=rng).to(dtype), None)


@given(st.floats(0, 1), st.integers(0, 70), st.integers(0, 700), st.sampled_from(DTYPES), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_resident_bytes_of_an_unstructured_weight(density, rows, cols, dtype, seed):
    """All that is held between calls is at most 1.25 times the stored bytes plus 4 KiB, at every density."""
    rng = generator(seed)
    dense = torch.randn(rows, cols, generator=rng) * (torch.rand(rows, cols, generator=rng) < density)
    for name in core.available_isas():
        core.set_isa(name)
        weight = PackedWeight.from_dense(dense.to(dtype), Unstructured())
        assert weight.nbytes <= 1.25 * weight.stored().nbytes + 4096
        assert torch.equal(weight.to_dense(), dense.to(dtype))
    core.set_isa("auto")


@pytest.mark.parametrize("pattern", [Block(64, 32), Block(48, 6), Block(8, 8), Block(5, 16), Block(1, 32)], ids=names)
def test_blocks_of_every_kernel(pattern, dtype, isa, seed):
    """Bands of several vectors and odd ends, narrow blocks along tokens and along inputs, one token up to many."""
    rng = generator(seed)
    for tokens in (0, 1, 2, 4, 5, 15, 33, 70):
        rows, cols = torch.randint(1, 200, (2,), generator=rng).tolist()
        dense = random_weight(rows, cols, pattern, rng, dtype)
        x, bias = torch.randn(tokens, cols, generator=rng).to(dtype), torch.randn(rows, generator=rng).to(dtype)
        check(dense, PackedWeight.from_dense(dense, pattern), x, bias)


@pytest.mark.parametrize("activation", sorted(reference.ACTIVATIONS))
@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_activations(pattern, activation, dtype, isa, seed):
    rng = generator(seed)
    dense = random_weight(33, 70, pattern, rng, dtype)
    x, bias = torch.randn(9, 70, generator=rng).to(dtype), torch.randn(33, generator=rng).to(dtype)
    check(dense, PackedWeight.from_dense(dense, pattern), x, bias, activation)


@pytest.mark.parametrize("activation", sorted(reference.ACTIVATIONS))
def test_activations_of_special_values(activation, isa):
    weight = PackedWeight.from_dense(torch.eye(5), "1:4")
    actual = weight.linear(torch.tensor([INFINITY, -INFINITY, NAN, -1000.0, 1000.0]).diag(), activation=activation)
    low = {"none": (-INFINITY, -1000.0), "relu": (0.0, 0.0)}.get(activation, (NAN, 0.0))
    expected = torch.tensor([INFINITY, low[0], NAN, low[1], 1000.0])
    torch.testing.assert_close(actual.diagonal(), expected, equal_nan=True)


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_leading_dimensions(pattern, isa, seed):
    rng = generator(seed)
    dense = random_weight(10, 24, pattern, rng)
    weight = PackedWeight.from_dense(dense, pattern)
    for shape in ((24,), (3, 24), (2, 3, 24), (2, 1, 3, 24), (0, 24), (2, 0, 24)):
        x = torch.randn(shape, generator=rng)
        out = weight.linear(x)
        assert out.shape == (*shape[:-1], 10)
        assert torch.allclose(out, x @ dense.t(), atol=1e-4)


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_strides(pattern, isa, seed):
    rng = generator(seed)
    dense = random_weight(20, 36, pattern, rng)
    weight = PackedWeight.from_dense(dense, pattern)
    base = torch.randn(8, 72, generator=rng)
    views = {
        "every second column": base[:, ::2],
        "every third row": base[::3, :36],
        "offset": base[1:, 5:41],
        "transposed": torch.randn(36, 8, generator=rng).t(),
        "expanded row": torch.randn(36, generator=rng).expand(4, 36),
        "expanded column": torch.randn(4, 1, generator=rng).expand(4, 36),
        "permuted": torch.randn(36, 2, 3, generator=rng).permute(1, 2, 0),
        "no tokens, strided": torch.randn(3, 0, 72, generator=rng)[..., ::2],
    }
    for name, x in views.items():
        assert torch.equal(weight.linear(x), weight.linear(x.contiguous())), name
    bias = torch.randn(40, generator=rng)[::2]
    assert torch.equal(weight.linear(base[:, :36], bias), weight.linear(base[:, :36], bias.contiguous()))


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
def test_pruned_positions_ignore_infinity_and_nan(pattern, dtype, isa, seed):
    """A masked sum: what meets a pruned weight adds nothing; what meets a kept one behaves as in a dense layer."""
    rng = generator(seed)
    rows, cols = 40, 70
    dense = random_weight(rows, cols, pattern, rng, dtype)
    weight = PackedWeight.from_dense(dense, pattern)
    mask = weight.stored().keep_mask()
    for tokens in (1, 4, 8, 40):
        x = torch.randn(tokens, cols, generator=rng).to(dtype)
        poisoned = torch.rand(x.shape, generator=rng) < 0.03
        specials = torch.tensor([INFINITY, -INFINITY, NAN], dtype=dtype)
        x[poisoned] = specials[torch.randint(3, (int(poisoned.sum()),), generator=rng)]
        exact = exact_linear(x, dense, mask, None)
        actual = weight.linear(x).double()
        assert torch.equal(actual.isnan(), exact.isnan())
        assert torch.equal(actual.isinf(), exact.isinf())
        infinite = exact.isinf()
        assert torch.equal(actual[infinite], exact[infinite])
        torch.testing.assert_close(actual[exact.isfinite()], exact[exact.isfinite()], atol=0.2, rtol=0.02)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_laws(data):
    """Permuted outputs permute; a power of two scales exactly; a column that is never kept does not matter."""
    pattern = data.draw(st.sampled_from(KINDS))
    rng = generator(data.draw(st.integers(0, 2**31)))
    core.set_isa(data.draw(st.sampled_from(core.available_isas())))
    rows, cols, tokens = (data.draw(st.integers(1, 50)) for _ in range(3))
    dense = random_weight(rows, cols, pattern, rng)
    weight = PackedWeight.from_dense(dense, pattern)
    x = torch.randn(tokens, cols, generator=rng)
    out = weight.linear(x)
    if not isinstance(pattern, Block):
        order = torch.randperm(rows, generator=rng)
        permuted = PackedWeight.from_dense(dense[order], pattern).linear(x)
        torch.testing.assert_close(permuted, out[:, order], atol=1e-4, rtol=1e-4)
    turned = torch.randperm(tokens, generator=rng)
    torch.testing.assert_close(weight.linear(x[turned]), out[turned], atol=1e-4, rtol=1e-4)
    assert torch.equal(weight.linear(x * 4), out * 4)
    assert torch.equal(PackedWeight.from_dense(dense * 0.5, pattern).linear(x), out * 0.5)
    core.set_isa("auto")


def test_one_rounding(dtype, isa):
    """Sum, bias and activation are computed in fp32 and rounded once: intermediate roundings would lose the bias."""
    columns = 64
    dense = torch.zeros(1, columns, dtype=dtype)
    dense[0, ::4] = 1
    x = torch.full((1, columns), 1.0, dtype=dtype)
    x[0, 0] = 256.0 if dtype == torch.bfloat16 else 2048.0
    bias = torch.tensor([0.75], dtype=dtype)
    exact = float(x[0, ::4].double().sum()) + 0.75
    for pattern in (NM(1, 4), Unstructured(), Block(1, 4)):
        out = PackedWeight.from_dense(dense, pattern).linear(x, bias)
        assert float(out) == float(torch.tensor(exact).to(dtype))


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
def test_same_bits_for_one_and_two_threads(pattern, isa, seed):
    rng = generator(seed)
    for tokens, rows, cols in ((1, 300, 260), (8, 300, 260), (20, 300, 260), (37, 130, 200), (64, 64, 64)):
        weight = PackedWeight.from_dense(random_weight(rows, cols, pattern, rng), pattern)
        x = torch.randn(tokens, cols, generator=rng)
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(weight.linear(x, activation="gelu"))
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_several_python_threads_at_once(pattern, isa, seed):
    torch.set_num_threads(2)
    rng = generator(seed)
    weight = PackedWeight.from_dense(random_weight(128, 256, pattern, rng), pattern)
    inputs = [torch.randn(9, 256, generator=rng) for _ in range(4)]
    expected = [weight.linear(x) for x in inputs]
    failures = []

    def work(x, want):
        failures.extend(1 for _ in range(30) if not torch.equal(weight.linear(x), want))

    workers = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def child(weight, x, queue):
    queue.put(weight.linear(x).numpy())


def test_after_fork(isa, seed):
    torch.set_num_threads(2)
    rng = generator(seed)
    weight = PackedWeight.from_dense(random_weight(640, 512, NM(2, 4), rng), "2:4")
    x = torch.randn(16, 512, generator=rng)
    expected = weight.linear(x)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(weight, x, queue))
    process.start()
    result = torch.from_numpy(queue.get(timeout=60))
    process.join(60)
    assert process.exitcode == 0
    assert torch.equal(result, expected)


@pytest.mark.parametrize("activation", sorted(reference.ACTIVATIONS))
@pytest.mark.parametrize("pattern", KINDS, ids=names)
def test_gradients(pattern, activation, seed):
    rng = generator(seed)
    dense = random_weight(9, 22, pattern, rng)
    weight = PackedWeight.from_dense(dense, pattern)
    x = torch.randn(2, 3, 22, generator=rng, requires_grad=True)
    bias = torch.randn(9, generator=rng, requires_grad=True)
    leaf = dense.clone().requires_grad_()
    towards = torch.randn(2, 3, 9, generator=rng)
    wanted = reference.ACTIVATIONS[activation](functional.linear(x, leaf, bias))
    expected = torch.autograd.grad(wanted, (x, bias, leaf), towards)
    actual = torch.autograd.grad(weight.linear(x, bias, activation, leaf), (x, bias, leaf), towards)
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    (only,) = torch.autograd.grad(weight.linear(x, bias, activation), (x,), towards)
    assert torch.equal(only, actual[0])


@pytest.mark.parametrize("activation", sorted(reference.ACTIVATIONS))
def test_second_derivatives(activation, seed):
    rng = generator(seed)
    dense = random_weight(6, 16, NM(2, 4), rng)
    weight = PackedWeight.from_dense(dense, "2:4")
    x = torch.randn(4, 16, generator=rng, requires_grad=True)
    bias = torch.randn(6, generator=rng, requires_grad=True)
    leaf = dense.clone().requires_grad_()
    towards = torch.randn(4, 6, generator=rng, requires_grad=True)

    def second(out):
        grads = torch.autograd.grad(out, (x, bias, leaf), towards, create_graph=True)
        total = sum((grad.sin() * (i + 1)).sum() for i, grad in enumerate(grads))
        return torch.autograd.grad(total, (x, bias, leaf, towards), materialize_grads=True)

    expected = second(reference.ACTIVATIONS[activation](functional.linear(x, leaf, bias)))
    for mine, theirs in zip(second(weight.linear(x, bias, activation, leaf)), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_gradients_in_half_precision(dtype, seed):
    rng = generator(seed)
    dense = random_weight(16, 32, NM(2, 4), rng, dtype)
    weight = PackedWeight.from_dense(dense, "2:4")
    x = torch.randn(5, 32, generator=rng).to(dtype).requires_grad_()
    bias = torch.zeros(16, dtype=dtype, requires_grad=True)
    weight.linear(x, bias, "gelu").sum().backward()
    assert x.grad.dtype == bias.grad.dtype == dtype
    exact = x.detach().double().requires_grad_()
    functional.gelu(functional.linear(exact, dense.double())).sum().backward()
    torch.testing.assert_close(x.grad.double(), exact.grad, atol=0.05, rtol=0.05)


def test_gradient_of_a_pruned_position_ignores_infinity():
    dense = torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0]])
    x = torch.ones(1, 4, requires_grad=True)
    PackedWeight.from_dense(dense, "1:4").linear(x).backward(torch.tensor([[INFINITY, 1.0]]))
    assert x.grad.tolist() == [[INFINITY, 2.0, 0.0, 0.0]]


def test_a_gradient_step_holds_no_dense_weight(seed):
    """What autograd keeps for a layer whose input needs a gradient is the resident tensor alone."""
    weight = PackedWeight.from_dense(random_weight(64, 64, NM(2, 4), generator(seed)), "2:4")
    x = torch.randn(3, 64, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        weight.linear(x, torch.zeros(64))
    assert [t.dtype for t in kept] == [torch.uint8]


SAMPLES = {
    "nm": lambda w, x, b, leaf: (ops.nm_linear, (x, w.resident, b, *w.shape, *w.pattern.sizes, "gelu", leaf)),
    "block": lambda w, x, b, leaf: (ops.block_linear, (x, w.resident, b, *w.shape, *w.pattern.sizes, "silu", leaf)),
    "bitmask": lambda w, x, b, leaf: (ops.bitmask_linear, (x, w.resident, b, *w.shape, "none", leaf)),
    "any": lambda w, x, b, leaf: (ops.packed_linear, (x, w.resident, b, *w.shape)),
    "gradient": lambda w, x, b, leaf: (ops.packed_grad_input, (x @ w.to_dense().t(), w.resident, *w.shape, leaf)),
    "dense": lambda w, x, b, leaf: (ops.packed_to_dense, (w.resident, *w.shape, torch.float32)),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_opcheck(sample):
    pattern = {"nm": NM(2, 4), "block": Block(4, 8), "bitmask": Unstructured()}.get(sample, NM(1, 4))
    rng = generator(0)
    dense = random_weight(12, 24, pattern, rng)
    weight = PackedWeight.from_dense(dense, pattern)
    for gradients in (True, False):
        x = torch.randn(2, 5, 24, generator=rng, requires_grad=gradients)
        bias = torch.randn(12, generator=rng, requires_grad=True) if gradients else None
        leaf = dense.clone().requires_grad_() if gradients else None
        operator, arguments = SAMPLES[sample](weight, x, bias, leaf)
        torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize(
    ("backend", "kinds"), [("aot_eager", KINDS), ("inductor", KINDS[:1])], ids=["eager", "inductor"]
)
def test_compile_with_a_dynamic_batch(backend, kinds, seed):
    rng = generator(seed)
    weights = [PackedWeight.from_dense(random_weight(24, 24, p, rng), p) for p in kinds]
    bias = torch.randn(24, generator=rng)

    def model(x):
        for weight in weights:
            x = weight.linear(x, bias, "gelu") + x
        return x

    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    for tokens in (2, 5, 9):
        x = torch.randn(tokens, 3, 24, generator=rng, requires_grad=True)
        again = x.detach().clone().requires_grad_()
        compiled(x).square().sum().backward()
        model(again).square().sum().backward()
        torch.testing.assert_close(x.grad, again.grad, atol=1e-4, rtol=1e-4)
        if backend == "aot_eager":
            with torch.no_grad():
                torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-5)


def test_autocast_converts_the_input_to_the_dtype_of_the_weight(seed):
    rng = generator(seed)
    dense = random_weight(8, 16, NM(2, 4), rng)
    x, bias = torch.randn(3, 16, generator=rng), torch.randn(8, generator=rng)
    for dtype in (torch.float32, torch.bfloat16):
        weight = PackedWeight.from_dense(dense.to(dtype), "2:4")
        with torch.autocast("cpu", torch.bfloat16):
            for given_dtype in (torch.float32, torch.bfloat16):
                out = weight.linear(x.to(given_dtype), bias)
                assert out.dtype == dtype
                expected = weight.linear(x.to(given_dtype).to(dtype), bias.to(dtype))
                assert torch.equal(out, expected)


def test_autocast_does_not_lower_the_sums_of_an_operator(seed):
    """Whatever a back end asks of torch: gradients, quantised weights, positions beside an infinity."""
    rng = generator(seed)
    dense = random_weight(40, 64, NM(1, 4), rng)
    x = torch.randn(30, 64, generator=rng, requires_grad=True)
    for dtype in (None, torch.int8, torch.float8_e4m3fn):
        weight = PackedWeight.from_dense(dense, "1:4", dtype)
        expected = weight.linear(x)
        (grad,) = torch.autograd.grad(expected.square().sum(), x)
        with torch.autocast("cpu", torch.bfloat16):
            out = weight.linear(x)
            assert torch.equal(out, expected)
            assert torch.equal(torch.autograd.grad(out.square().sum(), x)[0], grad)
        assert torch.is_autocast_enabled("cpu") is False


def test_reference_is_the_masked_sum(dtype, seed):
    """The oracle of this file and the fallback of the package agree, in fp32 and in float64."""
    rng = generator(seed)
    for pattern in KINDS:
        dense = random_weight(12, 30, pattern, rng, dtype)
        mask = random_mask(12, 30, pattern, rng) | (dense != 0)
        x = torch.randn(6, 30, generator=rng).to(dtype)
        x[0, 3], x[1, 4], x[2, 5] = INFINITY, -INFINITY, NAN
        bias = torch.randn(12, generator=rng).to(dtype)
        exact = exact_linear(x, dense, mask, bias)
        for compute in (torch.float32, torch.float64):
            out = reference.linear(x, dense, mask, bias, "none", compute)
            torch.testing.assert_close(out.double(), exact, atol=0.05, rtol=0.02, equal_nan=True)


def test_compiled_kernels_agree_with_the_reference_backend(dtype, isa, seed):
    rng = generator(seed)
    for pattern in PATTERNS:
        weight = PackedWeight.from_dense(random_weight(33, 41, pattern, rng, dtype), pattern)
        x = torch.randn(4, 41, generator=rng).to(dtype)
        bias = torch.randn(33, generator=rng).to(dtype)
        expected = reference.packed_linear(x, weight.resident, bias, "relu", ("", 33, 41, 0, 0))
        torch.testing.assert_close(weight.linear(x, bias, "relu"), expected, atol=0.1, rtol=0.02)
