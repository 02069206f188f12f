"""Sparse layers of others: those that torch brings run here, of the rest the figures that were measured elsewhere."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from sparsecore.nn import SparseLinear
from sparsecore.patterns import Block, Pattern, Unstructured
from sparsecore.samples import dense_layer, random_weight
from sparsecore.timing import interleaved, median_ratio

ELSEWHERE = json.loads((Path(__file__).parent / "peers.json").read_text())

_SHAPES = ((768, 3072), (4096, 4096))
_TOKENS = (1, 16, 128, 512)
_CASES: tuple[tuple[str, Pattern], ...] = (
    ("torch CSR (MKL)", Unstructured()),
    ("torch BSR 16x16 (MKL)", Block(16, 16)),
    ("torch BSR 32x32 (MKL)", Block(32, 32)),
)


def measure_peers(threads: int) -> Iterator[dict[str, Any]]:
    """Yield ratios to torch's dense fp32 layer at 90 %: the peer's and ours, on one weight."""
    generator = torch.Generator().manual_seed(2)
    for peer, pattern in _CASES:
        for shape in _SHAPES:
            weight = random_weight(shape[::-1], pattern, 0.1, torch.float32, generator)
            dense = dense_layer(weight)
            ours = SparseLinear.from_dense(dense, pattern)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # both layouts are called beta
                theirs = weight.to_sparse_bsr(pattern.sizes) if isinstance(pattern, Block) else weight.to_sparse_csr()
            for tokens in _TOKENS:
                x = torch.randn(tokens, shape[0])
                columns = x.t().contiguous()
                calls: dict[str, Callable[[], object]] = {
                    "dense": lambda x=x, dense=dense: dense(x),
                    "peer": lambda c=columns, theirs=theirs: theirs @ c,
                    "ours": lambda x=x, ours=ours: ours(x),
                }
                with torch.no_grad():
                    times = interleaved(calls, rounds=200, least=3, budget_s=0.2)
                ratios = {name: median_ratio(times["dense"], times[name]) for name in ("peer", "ours")}
                yield {"name": peer, "shape": shape, "tokens": tokens, "threads": threads, **ratios}
