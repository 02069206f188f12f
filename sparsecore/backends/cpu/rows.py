"""Choosing and moving rows on the compiled kernels; the meaning is in `reference.rows`. Rows travel as bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.native import core, span, span_of_new

__all__ = ["gather_rows", "ragged_topk", "scatter_rows_"]


def ragged_topk(scores: Tensor, counts: Tensor, keep: Tensor, width: int) -> Tensor:
    """See `reference.rows.ragged_topk`."""
    index = scores.new_empty((scores.shape[0], width), dtype=torch.int64)
    core.ragged_topk(span(scores), span(counts), span(keep), span_of_new(index), torch.get_num_threads())
    return index


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """See `reference.rows.gather_rows`."""
    out = x.new_empty((*index.shape, x.shape[2]))
    source, target = _bytes(x), out.view(torch.uint8)
    core.gather_rows(span(source), span(index), span_of_new(target), torch.get_num_threads())
    return out


def scatter_rows_(out: Tensor, positions: Tensor, x: Tensor) -> None:
    """See `reference.rows.scatter_rows_`."""
    if out.stride(-1) != 1 and out.shape[-1] > 1:
        whole = out.contiguous()
        scatter_rows_(whole, positions, x)
        out.copy_(whole)
        return
    target, source = out.view(torch.uint8), _bytes(x)
    core.scatter_rows(span(target), span(positions), span(source), torch.get_num_threads())


def _bytes(x: Tensor) -> Tensor:
    """x with its last dimension as bytes; a copy where the elements of a row are no neighbours."""
    return (x if x.stride(-1) == 1 else x.contiguous()).view(torch.uint8)
