"""Shapes that give every multiprocessor something to do: the largest tiles, and clusters of blocks, run only then.

The emulated device has few multiprocessors, a GPU more than a hundred: it takes larger shapes, and float64 on the GPU.
"""

from __future__ import annotations

import pytest
import torch
from weights import generator, random_weight

from sparsecore import resident
from sparsecore.backends.cuda import block_sparse_attention as cuda_blocks
from sparsecore.backends.cuda import device as cuda_device
from sparsecore.backends.cuda import linear as cuda
from sparsecore.backends.cuda import scored_attention as cuda_attention
from sparsecore.backends.cuda import topk as cuda_topk
from sparsecore.backends.cuda.routes import route
from sparsecore.backends.reference import block_sparse_attention as reference_blocks
from sparsecore.backends.reference import scored_attention as reference_attention
from sparsecore.backends.reference.quantised import quantise_tokens
from sparsecore.dtypes import is_quantised
from sparsecore.formats import pack
from sparsecore.ops import BlockMask
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.prune import prune_tensors

HALVES, F8 = (torch.bfloat16, torch.float16), torch.float8_e4m3fn
FP8_SUMS = 2.0**-12
"""Tensor cores of Hopper keep about 14 bits of sums of fp8 products (arXiv:2412.19437, 3.3.2)."""


def _sizes(device: torch.device, rows: int, tokens: int, cols: int) -> tuple[int, int, int]:
    """Rows, tokens and columns for a GPU; on the emulator those that give four multiprocessors as much."""
    if device.type == "cuda":
        return rows, tokens, cols
    return min(rows, 300), min(tokens, 260), min(cols, 150)


def _is_expanded(packed: torch.Tensor, tokens: int) -> bool:
    weight = resident.check(packed)
    return weight.isa == "cuda" and (
        route(weight.pattern, weight.dtype, tokens, weight.layout, cuda_device.capability(packed)) == "expand"
    )


def _check(
    device: torch.device, dense: torch.Tensor, pattern: Pattern, tokens: int, values: torch.dtype | None, seed: int
) -> None:
    """Compare a product on the device with the one in float64, element by element."""
    rows, cols = dense.shape
    stored = pack(dense, pattern, values)
    packed = resident.make(stored, "cuda").to(device)
    rng = generator(seed + 1)
    x, bias = (torch.randn(*shape, generator=rng).to(dense.dtype).to(device) for shape in ((tokens, cols), (rows,)))
    got = cuda.packed_linear(x, packed, bias, "relu", (pattern.kind, rows, cols, *pattern.sizes)).double()
    weight, wide, of_sums = stored.unpack().to(device), x.double(), 1e-5
    if values is not None and is_quantised(values):
        if values is F8 and _is_expanded(packed, tokens):  # x is not quantised, and the weight made dense is rounded
            weight = weight.to(dense.dtype)
        else:
            q, scales = quantise_tokens(x.cpu(), values)
            wide = (q.double() * scales[:, None].double()).to(device)
        of_sums = FP8_SUMS if values is F8 else of_sums
    weight = weight.double()
    sums, sizes = wide @ weight.T + bias.double(), wide.abs() @ weight.abs().T + bias.double().abs()
    # One rounding of the result, and those of sums.
    bound = torch.finfo(dense.dtype).eps * sums.abs() + of_sums * sizes + 1e-6
    wrong = (got - sums.relu()).abs() > bound
    assert not wrong.any(), f"{int(wrong.sum())} of {wrong.numel()} results, first at {wrong.nonzero()[0].tolist()}"


@pytest.mark.parametrize("values", [*HALVES, torch.int8, F8], ids=str)
@pytest.mark.parametrize(("rows", "tokens"), [(4300, 1000), (8700, 123), (700, 64)], ids=str)
def test_two_four(rows, tokens, values, device, seed):
    rows, tokens, cols = _sizes(device, rows, tokens, 1000)
    dtype = values if values in HALVES else HALVES[seed % 2]
    dense = random_weight(rows, cols, NM(2, 4), generator(seed), dtype)
    _check(device, dense, NM(2, 4), tokens, values, seed)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    ("rows", "tokens", "m"), [(8200, 700, 8), (8200, 700, 16), (1900, 2300, 8), (2050, 70, 16)], ids=str
)
def test_shared_columns(rows, tokens, m, dtype, device, seed):
    """Activations transposed for the kernel of Hopper, and two blocks of rows at a time in that of Ampere."""
    cols = 30 * m + 5
    if device.type != "cuda":
        rows, tokens = (2050 if rows > 2000 else 500), min(tokens, 130)
    dense = torch.randn(rows, cols, generator=generator(seed)).to(dtype)
    prune_tensors({"w": dense}, "magnitude-vnm", f"2:{m}")
    assert resident.check(resident.make(pack(dense, NM(2, m)), "cuda")).layout == 1012
    _check(device, dense, NM(2, m), tokens, None, seed)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.parametrize("tokens", [2200, 500])
def test_blocks(tokens, side, dtype, device, seed):
    rows, tokens, cols = _sizes(device, 4300, tokens, 700)
    pattern = Block(side, side)
    _check(device, random_weight(rows, cols, pattern, generator(seed), dtype), pattern, tokens, None, seed)


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(2, 8), NM(1, 8), Unstructured(), Block(64, 64)], ids=str)
@pytest.mark.parametrize("tokens", [1, 16])
def test_few_tokens(tokens, pattern, device, seed):
    rows, tokens, cols = _sizes(device, 9000, tokens, 4100)
    dtype = HALVES[seed % 2]
    dense = random_weight(rows, cols, pattern, generator(seed), dtype)
    _check(device, dense, pattern, tokens, None, seed)
    if pattern.kind == "nm":
        _check(device, dense, pattern, tokens, torch.int8, seed)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("width", [64, 128, 256])
def test_attention(width, dtype, device, seed):
    """Heads whose queries fill several blocks, with keys of more than one round of the ring, causal and not."""
    heads, queries, keys = (16, 700, 1100) if device.type == "cuda" else (1, 130, 200)
    rng = generator(seed)
    q, k, v = (
        torch.randn(2, count, tokens, width, generator=rng).to(dtype).to(device)
        for count, tokens in ((2 * heads, queries), (heads, keys), (heads, keys))
    )
    for causal in (True, False):
        rule = (causal, width**-0.5, 1.0, True, True)
        got = cuda_attention.scored_attention(q, k, v, None, None, *rule)
        _compare(got, reference_attention.scored_attention(q.double(), k.double(), v.double(), None, None, *rule))


def test_attention_along_lists(device, seed):
    queries, keys, heads = (700, 1100, 8) if device.type == "cuda" else (130, 200, 1)
    rng, dtype = generator(seed), HALVES[seed % 2]
    q, k, v = (torch.randn(1, heads, n, 128, generator=rng).to(dtype).to(device) for n in (queries, keys, keys))
    blocks = torch.rand(1, heads, -(-queries // 64), -(-keys // 64), generator=rng) < 0.5
    mask = BlockMask.from_dense(blocks, queries, keys, (64, 64))
    lists = (mask.offsets.to(device), mask.indices.to(device), 64, 64, False, 0.1, True, True)
    got = cuda_blocks.block_sparse_attention(q, k, v, *lists)
    _compare(got, reference_blocks.block_sparse_attention(q.double(), k.double(), v.double(), *lists))


def _compare(got: tuple[torch.Tensor, ...], wide: tuple[torch.Tensor, ...]) -> None:
    out, lse, tokens, _, used = got
    step = 4 * torch.finfo(out.dtype).eps
    torch.testing.assert_close(out.double(), wide[0], atol=step, rtol=step)
    torch.testing.assert_close(lse.double(), wide[1].double(), atol=3e-5, rtol=3e-5)
    assert ((tokens - wide[2]).abs() <= 1 + out.shape[2] + wide[2] * 1e-4).all()
    assert torch.equal(used, wide[4])


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize(("rows", "n", "k"), [(256, 262144, 128), (300, 4000, 300), (1, 1000003, 1000)], ids=str)
def test_selection(rows, n, k, dtype, device, seed):
    """16-bit values of so many elements are full of ties, which go to the lower index."""
    if device.type != "cuda":
        rows, n, k = min(rows, 5), min(n, 20000), min(k, 100)
    x = torch.randn(rows, n, generator=generator(seed)).to(dtype).to(device)
    values, indices = cuda_topk.topk_select(x, k)
    expected = torch.sort(x, dim=-1, descending=True, stable=True).indices[:, :k].sort().values
    assert torch.equal(indices, expected) and torch.equal(values, x.gather(1, expected))
