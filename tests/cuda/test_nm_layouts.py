"""Layouts of N:M weights on the device against torch's own conversion, and which one a weight gets."""

from __future__ import annotations

import pytest
import torch
from torch.sparse import _semi_structured_conversions as torch_layout

from sparsecore import resident
from sparsecore.backends.cuda import linear as cuda
from sparsecore.formats import pack
from sparsecore.patterns import NM
from sparsecore.prune import prune_tensors


def _two_four_sections(packed: torch.Tensor, rows: int, cols: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Kept values [rows, cols / 2] and metadata [rows, cols / 16] of a resident weight of whole tiles."""
    tiles = (rows // 16, cols // 64)
    metadata = packed[-tiles[0] * tiles[1] * 128 :]
    values = packed[: -len(metadata)][-tiles[0] * tiles[1] * 1024 :]
    # [..., half, g, t, right, lower, element]: row lower * 8 + g, kept value half * 16 + right * 8 + 2t + element.
    of_lanes = values.view(torch.bfloat16).reshape(*tiles, 2, 8, 4, 2, 2, 2)
    kept = of_lanes.permute(0, 6, 3, 1, 2, 5, 4, 7).reshape(rows, cols // 2)
    words = metadata.view(torch.int16).reshape(*tiles, 8, 4, 2)  # [..., g, t, lower]
    return kept, words.permute(0, 4, 2, 1, 3).reshape(rows, cols // 16)


def test_two_four_metadata_is_that_of_torch(seed):
    rows, cols = 64, 192
    torch.manual_seed(seed)
    dense = torch.randn(rows, cols, dtype=torch.bfloat16)
    prune_tensors(
        {"w": dense}, "magnitude", "2:4"
    )  # two of every group: where there are fewer, torch stores other zeros
    kept, metadata = _two_four_sections(resident.make(pack(dense, NM(2, 4)), "cuda"), rows, cols)
    values, reordered = torch_layout.sparse_semi_structured_from_dense_cutlass(dense)
    offsets = torch_layout._calculate_meta_reordering_scatter_offsets(rows, cols // 16, torch.int16, dense.device)
    assert torch.equal(metadata, reordered.reshape(-1)[offsets].reshape(rows, cols // 16))
    assert torch.equal(kept, values)


@pytest.mark.parametrize("m", [8, 16])
def test_weights_that_share_columns_are_gathered(m, device, seed):
    torch.manual_seed(seed)
    rows, cols = 150, 30 * m + 5
    dense = torch.randn(rows, cols, dtype=torch.bfloat16)
    prune_tensors({"w": dense}, "magnitude-vnm", f"2:{m}")
    packed = resident.make(pack(dense, NM(2, m)), "cuda")
    assert resident.check(packed).layout == 1012
    assert torch.equal(resident.to_stored(packed).unpack(), dense)
    for tokens in (1, 8, 9, 70):
        x = torch.randn(tokens, cols, dtype=torch.bfloat16)
        got = cuda.packed_linear(x.to(device), packed.to(device), None, "none", ("nm", rows, cols, 2, m))
        torch.testing.assert_close(got.cpu().double(), x.double() @ dense.double().T, rtol=1e-2, atol=1e-2)
