"""Top-k, and rows moved by it, on the device, through the back end's own functions, against the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsecore.backends.cuda import rows as cuda_rows
from sparsecore.backends.cuda import topk as cuda
from sparsecore.backends.reference import rows as reference_rows
from sparsecore.backends.reference import topk as reference

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def _bits(x: Tensor) -> Tensor:
    return x.cpu().contiguous().view(torch.int32 if x.dtype.itemsize == 4 else torch.int16)


def _with_oddities(x: Tensor) -> Tensor:
    """Ties, both zeros, infinities and NaN among the values."""
    chosen = torch.randint(0, 12, x.shape)
    for number, value in enumerate((0.0, -0.0, 1.0, float("inf"), -float("inf"), float("nan"))):
        x[chosen == number] = value
    return x


def _same(x: Tensor, k: int, device: torch.device) -> None:
    expected, indices = reference.topk_select(x, k)
    got = cuda.topk_select(x.to(device), k)
    assert torch.equal(got[1].cpu(), indices)
    assert torch.equal(_bits(got[0]), _bits(expected))
    if k > 0:
        threshold = cuda.topk_threshold(x.to(device), k).cpu()
        torch.testing.assert_close(threshold, reference.topk_threshold(x, k), rtol=0, atol=0, equal_nan=True)
        assert not (torch.signbit(threshold) & (threshold == 0)).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_short_rows(dtype, device, seed):
    torch.manual_seed(seed)
    for n in (0, 1, 33, 1000, 1024):
        x = _with_oddities(torch.randn(5, n)).to(dtype)
        for k in {0, n // 3, n}:
            _same(x, k, device)
    _same(torch.randn(3, 4, 50).to(dtype), 7, device)
    _same(torch.randn(50).to(dtype), 50, device)
    _same(torch.randn(60, 7).to(dtype).T, 9, device)
    _same(torch.randn(0, 7).to(dtype), 3, device)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long_rows(dtype, device, seed):
    """One launch that holds the row, one pass with fewer, digits with more than that keeps."""
    torch.manual_seed(seed)
    for n, k in ((1025, 800), (9001, 200), (9000, 5000)):
        _same(_with_oddities(torch.randn(1, n)).to(dtype), k, device)


def test_rows_in_pieces(device, seed):
    torch.manual_seed(seed)
    _same(torch.randn(1, 2 * 32768 + 5), 100, device)


def test_launches_follow_the_shapes(emulated, seed):
    """One launch for a row that fits, two for its pieces, and no more memory than a call says."""
    for n, k, launches in ((1024, 3, 1), (5000, 3000, 1), (70000, 10, 2)):
        before = emulated.launches()
        cuda.topk_select(torch.randn(1, n), k)
        assert emulated.launches() == before + launches
    assert emulated.cuda_topk_workspace(1, 8192, 8192, "f32") == 0


def test_integers_are_left_to_torch(device, seed):
    x = torch.randint(-3, 3, (4, 40))
    assert torch.equal(cuda.topk_select(x.to(device), 5)[1].cpu(), reference.topk_select(x, 5)[1])


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32], ids=str)
def test_ragged_rows(dtype, device, seed):
    torch.manual_seed(seed)
    for n, width in ((0, 3), (1, 1), (40, 60), (1000, 300), (3000, 200)):
        scores = torch.randint(-5, 5, (3, n)).to(dtype) if n % 3 else (torch.randn(3, n) * 2**20).to(dtype)
        counts = torch.randint(0, n + 1, (3,))
        keep = (torch.rand(3) * counts.clamp(max=width)).long()
        got = cuda.ragged_topk(scores.to(device), counts.to(device), keep.to(device), width)
        assert torch.equal(got.cpu(), reference_rows.ragged_topk(scores, counts, keep, width))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool], ids=str)
def test_rows_are_moved(dtype, device, seed):
    torch.manual_seed(seed)
    for batch, rows, m, width in ((1, 1, 1, 1), (2, 30, 17, 5), (3, 40, 60, 64), (2, 5, 0, 3), (2, 5, 4, 0)):
        x = torch.randint(0, 2, (batch, rows, width)).to(dtype)
        index = torch.randint(0, rows, (batch, m))
        gathered = cuda_rows.gather_rows(x.to(device), index.to(device))
        assert torch.equal(gathered.cpu(), reference_rows.gather_rows(x, index))
        positions, moved = torch.randint(-2, rows + 2, (batch, m)), torch.randint(0, 2, (batch, m, width)).to(dtype)
        for view in (lambda t: t, lambda t: t.transpose(1, 2).contiguous().transpose(1, 2)):
            got, expected = view(x.clone()).to(device), x.clone()
            cuda_rows.scatter_rows_(got, positions.to(device), view(moved).to(device))
            reference_rows.scatter_rows_(expected, positions, moved)
            assert torch.equal(got.cpu(), expected)


def test_an_index_without_a_row_stops_the_kernel(emulated):
    with pytest.raises(RuntimeError, match="outside of the rows"):
        cuda_rows.gather_rows(torch.zeros(1, 3, 2), torch.tensor([[3]]))
    assert cuda_rows.gather_rows(torch.arange(6.0).view(1, 3, 2), torch.tensor([[-1]])).tolist() == [[[4.0, 5.0]]]
