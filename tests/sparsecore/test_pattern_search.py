"""What the zeros of a weight look like: counts against plain definitions, patterns that almost hold, structure."""

from __future__ import annotations

import pytest
import torch
from weights import random_mask, random_weight

from sparsecore.errors import ShapeError
from sparsecore.formats import pack
from sparsecore.pattern_search import Near, look
from sparsecore.patterns import NM, Block, Pattern, Unstructured


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(rows: int, cols: int, rng: torch.Generator) -> torch.Tensor:
    return torch.rand(rows, cols, generator=rng) + 0.5


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 64), (130, 67), (257, 129), (65, 1000)])
@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 8), Block(8, 8), Block(1, 16), Unstructured()])
def test_counts_and_bytes_are_those_of_the_packed_weight(shape: tuple[int, int], pattern: Pattern, seed: int) -> None:
    weight = random_weight(*shape, pattern, generator(seed))
    weight[torch.rand(shape[0], generator=generator(seed + 1)) < 0.3] = 0
    weight[:, torch.rand(shape[1], generator=generator(seed + 2)) < 0.3] = -0.0
    found = look(weight)
    assert found.nonzeros == int(weight.count_nonzero())
    assert found.zero_rows == tuple((weight == 0).all(1).nonzero().flatten().tolist())
    assert found.zero_cols == tuple((weight == 0).all(0).nonzero().flatten().tolist())
    size = weight.numel() * weight.element_size()
    assert found.packed_bytes == (size if found.pattern is None else pack(weight, found.pattern).nbytes)
    assert found.packed_bytes <= size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_weight_of_many_strips_is_found_as_a_small_one(dtype: torch.dtype, seed: int) -> None:
    rng = generator(seed)
    weight = torch.where(random_mask(4400, 2050, NM(2, 4), rng), filled(4400, 2050, rng), 0).to(dtype)
    found = look(weight)
    assert (found.pattern, found.near) == (NM(2, 4), None)
    assert found.nonzeros == int(weight.count_nonzero())
    assert look(weight[:, :1024].t()).nonzeros == int(weight[:, :1024].count_nonzero())


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(1, 2), NM(4, 8), NM(2, 8)])
def test_the_share_of_broken_groups_is_told(pattern: NM, seed: int) -> None:
    rng = generator(seed)
    weight = torch.where(random_mask(200, 160, pattern, rng), filled(200, 160, rng), 0)
    groups = weight.view(-1, pattern.m)
    broken = torch.randperm(len(groups), generator=rng)[: len(groups) // 50]
    groups[broken] = 1
    near = look(weight).near
    assert near is not None
    assert (near.pattern, near.share) == (pattern, 1 - len(broken) / len(groups))
    assert str(near) == f"{pattern.name} in {int(near.share * 1000) / 10} % of the groups"


def test_one_broken_group_does_not_read_as_all_of_them(seed: int) -> None:
    rng = generator(seed)
    weight = torch.where(random_mask(512, 512, NM(2, 4), rng), filled(512, 512, rng), 0)
    weight[17, 40:44] = 1
    assert look(weight).describe() == "2:4 in 99.9 % of the groups"


def test_stray_values_beside_blocks_are_told(seed: int) -> None:
    rng = generator(seed)
    weight = torch.where(random_mask(512, 640, Block(32, 32), rng), filled(512, 640, rng), 0)
    empty = (weight.reshape(16, 32, 20, 32) == 0).all(3).all(1).nonzero()
    for row, col in empty[:5].tolist():
        weight[32 * row + 3, 32 * col + 9] = 1
    assert look(weight).near == Near(Block(32, 32), 1 - min(5, len(empty)) / 320)


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7])
def test_a_random_mask_is_no_pattern_that_almost_holds(density: float, seed: int) -> None:
    rng = generator(seed)
    weight = filled(256, 512, rng) * (torch.rand(256, 512, generator=rng) < density)
    found = look(weight)
    assert found.near is None
    assert (found.pattern, found.describe()) == (Unstructured(), "unstructured")


def test_structure_is_told_and_with_it_the_pattern_of_the_rest(seed: int) -> None:
    rng = generator(seed)
    weight = filled(96, 128, rng)
    assert look(weight).describe() == "no zeros"
    weight[10:34] = 0
    assert look(weight).describe() == "24 of 96 rows zero"
    weight[:, 64:] = 0
    found = look(weight)
    assert found.describe() == "24 of 96 rows zero, 64 of 128 columns zero"
    assert found.zero_rows == tuple(range(10, 34))
    mixed = torch.where(random_mask(96, 128, NM(2, 4), rng), filled(96, 128, rng), 0)
    mixed[:8] = 0
    assert look(mixed).describe() == "2:4, 8 of 96 rows zero"
    assert look(torch.zeros(8, 8)).describe() == "all zero"
    assert look(torch.zeros(0, 8)).describe() == "no zeros"
    few = filled(64, 64, rng)
    few[0, 0] = 0
    assert look(few).describe() == "few zeros"


def test_other_ranks_are_refused() -> None:
    with pytest.raises(ShapeError, match="3 dimensions"):
        look(torch.ones(2, 2, 2))
