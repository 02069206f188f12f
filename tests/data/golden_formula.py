"""The weights of golden-1.0.safetensors, from a fixed formula.

The file was made once, with the first release of the format, by `python tests/data/golden_formula.py` in the root of
the repository. It is never written again: what is in it must stay readable.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

PATH = Path(__file__).parent / "golden-1.0.safetensors"

# module: (pattern, rows, cols, dtype)
PACKED = {
    "two_four": ("2:4", 12, 20, torch.bfloat16),
    "codes": ("1:8", 9, 70, torch.float16),
    "mask": ("3:6", 5, 31, torch.float32),
    "block": ("block 4x8", 10, 30, torch.float32),
    "unstructured": ("unstructured", 7, 45, torch.float32),
}


def value(row: Tensor, col: Tensor) -> Tensor:
    """Multiples of 1/64 between -2 and 2, exact in every element type; some of them are zero."""
    return ((row * 37 + col * 101 + row * col) % 251 - 125).clamp(-128, 127) / 64


def kept(pattern: str, row: Tensor, col: Tensor) -> Tensor:
    """Which positions each pattern keeps."""
    if pattern == "2:4":
        return ((col + row) % 4 == 1) | ((col + row) % 4 == 2)
    if pattern == "1:8":
        return col % 8 == (row + col // 8) % 8
    if pattern == "3:6":
        return (col + row) % 2 == 0
    if pattern == "block 4x8":
        return (row // 4 + col // 8) % 3 == 0
    return (row * 5 + col * 3) % 10 == 0


def dense(pattern: str, rows: int, cols: int, dtype: torch.dtype) -> Tensor:
    """The dense weight of one module."""
    row, col = torch.arange(rows)[:, None], torch.arange(cols)[None, :]
    return torch.where(kept(pattern, row, col), value(row, col), 0.0).to(dtype)


def bias(rows: int, dtype: torch.dtype) -> Tensor:
    """The bias of one module."""
    return (torch.arange(rows) / 8 - 0.5).to(dtype)


def embedding() -> Tensor:
    """A dense tensor, tied: it is `embed.weight` and `head.weight`."""
    row, col = torch.arange(6)[:, None], torch.arange(5)[None, :]
    return value(row, col + 7).float()


def model() -> nn.Module:
    """The model that the file holds."""
    import sparsecore as sc

    layers = nn.ModuleDict()
    for name, (pattern, rows, cols, dtype) in PACKED.items():
        linear = nn.Linear(cols, rows, dtype=dtype)
        linear.weight.data.copy_(dense(pattern, rows, cols, dtype))
        linear.bias.data.copy_(bias(rows, dtype))
        layers[name] = sc.nn.SparseLinear.from_dense(linear, pattern)
    layers["embed"], layers["head"] = nn.Embedding(6, 5), nn.Linear(5, 6, bias=False)
    layers["embed"].weight.data.copy_(embedding())
    layers["head"].weight = layers["embed"].weight
    layers["norm"] = nn.BatchNorm1d(3)  # buffers, one of them an int64 scalar
    return layers


if __name__ == "__main__":
    import sparsecore as sc

    sc.save(model(), PATH)
