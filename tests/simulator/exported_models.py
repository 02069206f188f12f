"""A small workload with every kind of product, for the tests of what `simulate export` writes of models."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from simulator.workload import AttentionOp, LinearOp, ModelInfo, Sequence, Workload

HEADS, DIM = 4, 8


def small_workload(seed: int) -> Workload:
    """Two layers, sizes drawn anew, linear layers of every pattern, pruned heads and values, and a generated token."""
    draw = random.Random(seed)
    tokens, hidden = draw.randint(3, 20), HEADS * DIM
    info = ModelInfo("bert", 2, HEADS, HEADS, DIM, hidden, 4 * hidden, 100, 10**5, "f32")
    patterns = [("dense", 1.0), ("2:4", 0.5), ("unstructured", round(draw.uniform(0.1, 0.9), 3)), ("block 32x32", 0.25)]
    linear = [
        LinearOp(layer, name, 0, "summarise", 0, tokens, hidden, outputs, pattern, density)
        for layer in range(2)
        for (name, outputs), (pattern, density) in zip(
            {"query": hidden, "key": hidden, "value": hidden, "up": 4 * hidden}.items(), patterns, strict=True
        )
    ]
    linear += [
        LinearOp(None, "lm_head", 0, "generate", 1, 1, hidden, 100),
        LinearOp(None, "empty", 0, "summarise", 0, 0, hidden, hidden),
    ]
    kept = draw.randint(2, tokens)
    values = tuple(draw.randint(1, kept) for _ in range(3))
    attention = (
        _attention(0, tokens, tokens, (0, 1, 2, 3), (tokens,) * 4, tokens, (0,) * 4),
        _attention(1, tokens, kept, (0, 2, 3), values, 1, (1, 0, 0)),
    )
    return Workload("small", info, (Sequence(0, tokens),), attention, tuple(linear), ())


def _attention(
    layer: int,
    context: int,
    keys: int,
    heads: tuple[int, ...],
    values: tuple[int, ...],
    local: int,
    recomputed: tuple[int, ...],
) -> AttentionOp:
    widths = (8, 8, 4 if any(recomputed) else 0, 8)
    return AttentionOp(
        layer, 0, "summarise", 0, context, keys, keys, heads, len(heads), DIM, values, local, recomputed, *widths
    )


def operations_of(folder: Path) -> int:
    """Two for each multiply-add of all products that layers.csv lists, zeros of weights included."""
    with (folder / "layers.csv").open(newline="") as file:
        return sum(
            2 * int(row["M"]) * int(row["N"]) * int(row["K"]) * int(row["count"]) for row in csv.DictReader(file)
        )


def operations_in(workload: Workload) -> int:
    """The same, said from the ops."""
    dense = sum(2 * op.tokens * op.in_features * op.out_features for op in workload.linear)
    rows = sum(op.queries * (op.keys + values) for op in workload.attention for values in op.values)
    return dense + 2 * DIM * rows
