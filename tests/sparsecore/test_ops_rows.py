from __future__ import annotations

import pytest
import torch
from weights import generator

from sparsecore.errors import DtypeError, InvalidValueError, ShapeError
from sparsecore.ops import gather_rows, ragged_topk, scatter_rows_

KINDS = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.int8, torch.complex64)


def slots_by_sorting(scores, counts, keep, width):
    """The definition of ragged_topk, one row at a time."""
    rows = []
    for row, count, number in zip(scores.tolist(), counts.tolist(), keep.tolist(), strict=True):
        rank = sorted(range(count), key=lambda s, row=row: (row[s] == row[s], -row[s] if row[s] == row[s] else 0, s))
        rows.append(sorted(rank[:number]) + [0] * (width - number))
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), width)


@pytest.mark.parametrize("kind", [torch.int64, torch.float32], ids=str)
def test_topk_against_sorting(kind, isa, seed):
    rng = generator(seed)
    for slots in (1, 7, 64, 385):
        counts = torch.randint(0, slots + 1, (5,), generator=rng)
        keep = (torch.rand(5, generator=rng) * (counts + 1)).long().minimum(counts)
        width = int(keep.max()) + 2
        few = torch.randint(-4, 5, (5, slots), generator=rng)
        many = torch.randint(-(2**62), 2**62, (5, slots), generator=rng)
        for scores in (few, many):
            wanted = scores.to(kind)
            if kind is torch.float32:
                wanted[0, ::3] = float("nan")
                wanted[1, ::2] = -float("inf")
            else:
                wanted[0, 0], wanted[1, -1] = 2**63 - 1, -(2**63)
            expected = slots_by_sorting(wanted, counts, keep, width)
            assert torch.equal(ragged_topk(wanted, counts, keep, width), expected)
            assert torch.equal(ragged_topk(wanted.T.contiguous().T, counts, keep, width), expected)


def test_topk_of_nothing(isa):
    none = torch.zeros(2, dtype=torch.int64)
    assert ragged_topk(torch.zeros(2, 0), none, none, 0).shape == (2, 0)
    assert ragged_topk(torch.zeros(0, 5), none[:0], none[:0], 3).shape == (0, 3)
    assert ragged_topk(torch.ones(2, 3), none, none, 4).tolist() == [[0] * 4] * 2


def test_topk_input_is_checked():
    scores, counts, keep = torch.zeros(2, 5), torch.tensor([3, 5]), torch.tensor([2, 4])
    for wrong in ((scores[0], counts, keep), (scores, counts[:1], keep), (scores, counts, keep[:, None])):
        with pytest.raises(ShapeError):
            ragged_topk(*wrong, 4)
    for wrong in ((scores.half(), counts, keep), (scores, counts.int(), keep), (scores, counts, keep.float())):
        with pytest.raises(DtypeError):
            ragged_topk(*wrong, 4)
    with pytest.raises(InvalidValueError, match="width"):
        ragged_topk(scores, counts, keep, -1)
    for bad in ([3, 6], [-1, 5]):
        with pytest.raises(InvalidValueError, match="counts"):
            ragged_topk(scores, torch.tensor(bad), keep, 4)
    for bad in ([4, 4], [-1, 4], [2, 5]):
        with pytest.raises(InvalidValueError, match="keep"):
            ragged_topk(scores, counts, torch.tensor(bad), 4)


def random_rows(kind, shape, rng):
    whole = torch.randint(0, 100, shape, generator=rng)
    return whole.bool() if kind is torch.bool else whole.to(kind)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rows_there_and_back(kind, seed):
    rng = generator(seed)
    for batch, rows, columns, number in ((1, 1, 1, 1), (3, 9, 20, 5), (2, 40, 7, 64), (1, 300, 65, 200)):
        x = random_rows(kind, (batch, rows, columns), rng)
        index = torch.randint(0, rows, (batch, number), generator=rng)
        expected = torch.stack([x[b][index[b]] for b in range(batch)])
        assert torch.equal(gather_rows(x, index), expected)
        assert torch.equal(gather_rows(x.mT.contiguous().mT, index.T.contiguous().T), expected)
        positions = torch.randint(-2, rows + 2, (batch, number), generator=rng)
        out = random_rows(kind, (batch, rows, columns), rng)
        slow = out.clone()
        for b in range(batch):
            for s, position in enumerate(positions[b].tolist()):
                if 0 <= position < rows:
                    slow[b, position] = expected[b, s]
        strided = out.mT.contiguous().mT
        assert scatter_rows_(out, positions, expected) is out
        assert torch.equal(out, slow)
        assert torch.equal(scatter_rows_(strided, positions, expected.mT.contiguous().mT), slow)


def test_empty_rows():
    x, none = torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64)
    assert gather_rows(x, none).shape == (2, 0, 4)
    assert scatter_rows_(x, none, x).shape == (2, 0, 4)
    assert gather_rows(torch.zeros(2, 3, 0), none).shape == (2, 0, 0)
    assert not bool(scatter_rows_(torch.zeros(2, 3, 4), none, x).any())


def test_same_rows_for_any_number_of_threads(seed):
    rng = generator(seed)
    x, out = torch.randn(2, 400, 70, generator=rng), torch.randn(2, 100, 70, generator=rng)
    positions = torch.randint(-5, 105, (2, 400), generator=rng)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(scatter_rows_(out.clone(), positions, x))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_rows_input_is_checked():
    x, index = torch.zeros(2, 5, 3), torch.zeros(2, 4, dtype=torch.int64)
    for wrong in ((x[0], index), (x, index[:1]), (x, index[0])):
        with pytest.raises(ShapeError):
            gather_rows(*wrong)
    with pytest.raises(DtypeError, match="index"):
        gather_rows(x, index.int())
    for bad in (-1, 5, 2**62):
        with pytest.raises(InvalidValueError, match="index"):
            gather_rows(x, index + bad)
    with pytest.raises(InvalidValueError, match="index"):
        gather_rows(x[:, :0], index)
    for wrong in (torch.zeros(2, 3, 3), torch.zeros(2, 4, 4)):
        with pytest.raises(ShapeError, match="x is"):
            scatter_rows_(x, index, wrong)
    with pytest.raises(DtypeError, match="x is"):
        scatter_rows_(x, index, torch.zeros(2, 4, 3).half())


def test_gradients(seed):
    rng = generator(seed)
    x = torch.randn(2, 6, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    base = torch.randn(2, 5, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, 6, (2, 8), generator=rng)
    positions = torch.stack([torch.randperm(8, generator=rng)[:6] - 1 for _ in range(2)])
    assert torch.autograd.gradcheck(lambda x: gather_rows(x, index), x)
    assert torch.autograd.gradcheck(lambda b, x: scatter_rows_(b.clone(), positions, x), (base, x))


def test_opcheck(seed):
    rng = generator(seed)
    x, index = torch.randn(2, 6, 3, generator=rng), torch.randint(0, 6, (2, 8), generator=rng)
    library = torch.ops.sparsecore
    torch.library.opcheck(library.gather_rows.default, (x.requires_grad_(), index))
    torch.library.opcheck(library.scatter_rows_.default, (torch.zeros(2, 5, 3), index, torch.ones(2, 8, 3)))
    counts, keep = torch.tensor([6, 3]), torch.tensor([2, 3])
    for scores in (torch.randn(2, 6, generator=rng), torch.randint(0, 9, (2, 6), generator=rng)):
        torch.library.opcheck(library.ragged_topk.default, (scores, counts, keep, 4))


@pytest.mark.parametrize("gradients", [False, True])
def test_compile_without_a_break(gradients, seed):
    torch.compiler.reset()
    rng = generator(seed)

    def model(x, scores, counts, keep):
        index = ragged_topk(scores, counts, keep, 4)
        rows = gather_rows(x, index) * 2
        return scatter_rows_(torch.zeros_like(x), index, rows)

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 6, 3, generator=rng, requires_grad=gradients)
    arguments = (torch.randn(2, 6, generator=rng), torch.tensor([6, 3]), torch.tensor([4, 3]))
    torch.testing.assert_close(compiled(x, *arguments), model(x, *arguments))
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, *arguments), model(x, *arguments))
