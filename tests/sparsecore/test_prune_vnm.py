"""V:N:M pruning: 2 of m in which 128 rows share four columns of every group."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sparsecore as sc
from sparsecore.errors import InvalidValueError


def _expected(weight: torch.Tensor, m: int) -> torch.Tensor:
    """The mask one group of one block after the other."""
    keep = torch.zeros_like(weight, dtype=torch.bool)
    for first in range(0, weight.shape[0], 128):
        for begin in range(0, weight.shape[1], m):
            part = weight[first : first + 128, begin : begin + m].abs().double()
            columns = part.sum(0).argsort(descending=True, stable=True)[:4].sort().values
            best = part[:, columns].argsort(dim=1, descending=True, stable=True)[:, :2]
            keep[first : first + 128, begin : begin + m].scatter_(1, columns[best], True)
    return keep


@pytest.mark.parametrize(("rows", "cols", "m"), [(300, 67, 8), (1, 5, 8), (128, 48, 16), (130, 33, 5)])
def test_rows_share_four_columns_of_every_group(rows, cols, m, seed):
    torch.manual_seed(seed)
    layer = nn.Linear(cols, rows)
    before = layer.weight.detach().clone()
    sc.prune.one_shot(layer, "magnitude-vnm", f"2:{m}")
    assert torch.equal(layer.weight, before * _expected(before, m))
    sc.PackedWeight.from_dense(layer.weight.detach(), f"2:{m}")


@pytest.mark.parametrize("pattern", ["2:4", "1:8", "block 32x32", "unstructured"])
def test_other_patterns_are_refused_and_nothing_is_changed(pattern, seed):
    torch.manual_seed(seed)
    layer = nn.Linear(16, 16)
    before = layer.weight.detach().clone()
    with pytest.raises(InvalidValueError, match="2:m with m > 4"):
        sc.prune.one_shot(layer, "magnitude-vnm", pattern, sparsity=0.5)
    assert torch.equal(layer.weight, before)
