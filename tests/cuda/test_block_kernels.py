"""Block-sparse linear layers on the device, through the back end's own function, against the product in float64."""

from __future__ import annotations

import pytest
import torch
from weights import assert_close, generator, random_weight

from sparsecore import resident
from sparsecore.backends.cuda import linear as cuda
from sparsecore.formats import pack
from sparsecore.patterns import Block


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pattern", [Block(32, 32), Block(64, 64), Block(128, 64), Block(16, 128)], ids=str)
def test_block_linear(pattern, dtype, device, seed):
    torch.manual_seed(seed)
    rows, cols = int(torch.randint(1, 200, ())), int(torch.randint(1, 25, ())) * 8
    dense = random_weight(rows, cols, pattern, generator(seed), dtype)
    packed = resident.make(pack(dense, pattern), "cuda").to(device)
    bias = torch.randn(rows, dtype=dtype)
    for tokens in (0, 1, 9, 70):
        x = torch.randn(tokens, cols, dtype=dtype)
        got = cuda.packed_linear(x.to(device), packed, bias.to(device), "relu", ("block", rows, cols, *pattern.sizes))
        exact = x.double() @ dense.double().T + bias.double()
        magnitude = x.double().abs() @ dense.double().abs().T + bias.double().abs()
        assert_close(got.cpu(), exact.relu(), magnitude, cols)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("pattern", [Block(64, 64), Block(8, 4), Block(3, 5)], ids=str)
def test_blocks_of_any_size_come_back(pattern, dtype, seed):
    dense = random_weight(70, 100, pattern, generator(seed), dtype)
    packed = resident.make(pack(dense, pattern), "cuda")
    assert resident.check(packed).isa == "cuda"
    assert torch.equal(resident.to_stored(packed).unpack(), dense)
