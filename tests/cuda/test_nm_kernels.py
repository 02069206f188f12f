"""N:M linear layers on the device, through the back end's own function, against the product in float64."""

from __future__ import annotations

import pytest
import torch
from weights import assert_close, exact_linear, generator, random_weight

from sparsecore import resident
from sparsecore.backends.cuda import device as cuda_device
from sparsecore.backends.cuda import linear as cuda
from sparsecore.backends.reference import linear as reference
from sparsecore.backends.reference.quantised import quantise_tokens
from sparsecore.formats import pack
from sparsecore.native import core
from sparsecore.patterns import NM

# Without products of fp8 for many tokens, with them as Ada has them, and as Hopper does.
FP8_DEVICES = ["gpu"] if torch.cuda.is_available() and core.cuda_info()["available"] else [(80, 100), (89, 120), (90,)]


def _close(got: torch.Tensor, expected: torch.Tensor) -> None:
    step = torch.finfo(got.dtype).eps
    bound = step * (1 + expected.abs()) * 4 if got.dtype.itemsize == 2 else 1e-4 * (1 + expected.abs())
    assert ((got.cpu().double() - expected).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(1, 8), NM(2, 8), NM(5, 16)], ids=str)
def test_nm_linear(pattern, dtype, device, seed):
    torch.manual_seed(seed)
    rows, cols = int(torch.randint(1, 70, ())), int(torch.randint(1, 200, ()))
    for tokens in (0, 1, 9, 17):
        dense = random_weight(rows, cols, pattern, generator(seed), dtype)
        stored = pack(dense, pattern)
        packed = resident.make(stored, "cuda").to(device)
        x, bias = torch.randn(tokens, cols, dtype=dtype), torch.randn(rows, dtype=dtype)
        got = cuda.packed_linear(
            x.to(device), packed, bias.to(device), "relu", ("nm", rows, cols, pattern.n, pattern.m)
        )
        _close(got, torch.relu(x.double() @ dense.double().T + bias.double()))


def test_the_emulated_device_runs_the_kernel_of_its_architecture(emulated, seed):
    torch.manual_seed(seed)
    x = torch.randn(32, 128, dtype=torch.bfloat16)
    dense = random_weight(40, 128, NM(2, 4), generator(seed), torch.bfloat16)
    stored = pack(dense, NM(2, 4))
    before = emulated.launches()
    got = cuda.packed_linear(x, resident.make(stored, "cuda"), None, "none", ("nm", 40, 128, 2, 4))
    assert emulated.launches() == before + 1
    _close(got, x.double() @ dense.double().T)


@pytest.mark.parametrize("values", [torch.float16, torch.int8, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("pattern", [NM(2, 4), NM(2, 8)], ids=str)
def test_few_rows_are_split_along_the_columns(pattern, values, emulated, seed):
    torch.manual_seed(seed)
    x = torch.randn(3, 2200, dtype=torch.float16)
    stored = pack(random_weight(45, 2200, pattern, generator(seed), torch.float16), pattern, values)
    expected = ("nm", 45, 2200, *pattern.sizes)
    before = emulated.launches()
    got = cuda.packed_linear(x, resident.make(stored, "cuda"), None, "none", expected)
    # The products and the sum of the splits; before them, activations are quantised.
    assert emulated.launches() == before + (2 if values is torch.float16 else 3)
    if values is not torch.float16:
        torch.testing.assert_close(
            got, reference.packed_linear(x, resident.make(stored, "portable"), None, "none", expected)
        )
    else:
        _close(got, x.double() @ stored.unpack().double().T)


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(1, 8), NM(2, 8)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_int8_weights_have_the_result_of_the_reference(pattern, dtype, device, seed, monkeypatch):
    torch.manual_seed(seed)
    for module in (cuda, cuda.expand):
        monkeypatch.setattr(module, "_SCRATCH_BYTES", 1)  # 128 tokens a launch, 32 a product of torch's
    rows, cols = int(torch.randint(1, 280, ())), int(torch.randint(1, 200, ()))
    stored = pack(random_weight(rows, cols, pattern, generator(seed), torch.float32), pattern, torch.int8)
    packed = resident.make(stored, "cuda").to(device)
    expected = ("nm", rows, cols, *pattern.sizes)
    bias = torch.randn(rows)
    for tokens in (0, 1, 9, 20, 130):
        x = torch.randn(tokens, cols, dtype=dtype)
        x[tokens // 2 :, :1] = torch.inf
        got = cuda.packed_linear(x.to(device), packed, bias.to(device), "silu", expected).cpu()
        wanted = reference.packed_linear(x, resident.make(stored, "portable"), bias, "silu", expected)
        torch.testing.assert_close(got, wanted, equal_nan=True)
    _same_gradient_and_dense_weight(stored, packed, dtype)


@pytest.mark.parametrize("device", FP8_DEVICES, indirect=True)
@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(1, 8), NM(2, 8)], ids=str)
def test_fp8_weights_are_multiplied_or_expanded(pattern, device, seed, monkeypatch):
    torch.manual_seed(seed)
    monkeypatch.setattr(cuda, "_SCRATCH_BYTES", 1)  # 128 tokens a launch
    dtype = (torch.bfloat16, torch.float16, torch.float32)[int(torch.randint(3, ()))]
    rows, cols = int(torch.randint(1, 70, ())), int(torch.randint(1, 200, ()))
    weight = random_weight(rows, cols, pattern, generator(seed), torch.float32)
    stored = pack(weight, pattern, torch.float8_e4m3fn)
    expected = ("nm", rows, cols, *pattern.sizes)
    packed = resident.make(stored, "cuda").to(device)
    capability, mask = cuda_device.capability(packed), stored.keep_mask()
    # A weight too small for the layout keeps its stored form, which torch multiplies as its definition says.
    laid_out = resident.check(packed, expected).isa == "cuda"
    bias = torch.randn(rows)
    for tokens in (0, 1, 16, 130, 600):
        x = torch.randn(tokens, cols).to(dtype)
        x[tokens // 2 :, :1] = torch.inf
        got = cuda.packed_linear(x.to(device), packed, bias.to(device), "none", expected).cpu()
        if laid_out and tokens > 512 and not (pattern == NM(2, 4) and capability in ((8, 9), (9, 0), (12, 0))):
            dense, rounded = stored.unpack().to(dtype), bias.to(dtype)
            exact = exact_linear(x, dense, mask, rounded)
            magnitude = exact_linear(x.abs(), dense.abs(), mask, rounded.abs())
        else:
            (q, x_scales), (values, scales) = quantise_tokens(x, stored.dtype), stored.unpack_quantised()
            both = x_scales.double()[:, None] * scales.double()
            exact = exact_linear(q.float(), values.float(), mask, None) * both + bias.double()
            magnitude = exact_linear(q.float().abs(), values.float().abs(), mask, None) * both + bias.double().abs()
        # Tensor cores may add fp8 products with some 14 bits, as Hopper's do; a few tokens are multiplied as fp16.
        assert_close(got, exact, magnitude * (2**11 if capability >= (8, 9) and tokens > 16 else 1), cols)
    _same_gradient_and_dense_weight(stored, packed, dtype)


def _same_gradient_and_dense_weight(stored, packed, dtype):
    expected = (stored.pattern.kind, *stored.shape, *stored.pattern.sizes)
    grad = torch.randn(5, stored.shape[0]).to(dtype)
    grad[1, 0], grad[2, -1] = torch.inf, torch.nan
    got = cuda.packed_grad_input(grad.to(packed.device), packed, expected).cpu()
    wanted = reference.packed_grad_input(grad, resident.make(stored, "portable"), expected)
    torch.testing.assert_close(got, wanted, equal_nan=True)
    assert torch.equal(cuda.packed_to_dense(packed, expected).cpu(), stored.unpack())
