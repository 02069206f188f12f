"""Choosing, gathering and scattering rows of ragged batches in pure torch."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.errors import InvalidValueError

__all__ = ["gather_rows", "ragged_topk", "scatter_rows_"]


def ragged_topk(scores: Tensor, counts: Tensor, keep: Tensor, width: int) -> Tensor:
    """See `sparsecore.ops.ragged_topk`; the values of counts and keep are looked at where they lie on the CPU."""
    slots = scores.shape[1]
    if scores.device.type == "cpu":
        _check_counts(counts, keep, slots, width)
    place = torch.arange(slots, device=scores.device)
    order = scores.sort(dim=1, descending=True, stable=True).indices
    # Slots beyond the count move behind all others, which keep their order.
    order = order.gather(1, (order >= counts[:, None]).byte().sort(dim=1, stable=True).indices)
    rank = torch.empty_like(order).scatter_(1, order, place.expand_as(order))
    chosen = rank < keep[:, None]
    first = torch.where(chosen, place, slots).sort(1).values
    index = first.new_zeros((len(scores), width))
    index[:, : min(width, slots)] = first[:, :width]
    return torch.where(torch.arange(width, device=scores.device) < keep[:, None], index, 0)


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """See `sparsecore.ops.gather_rows`; indices are looked at where they lie on the CPU."""
    if x.device.type == "cpu" and index.numel() and not bool(((index >= 0) & (index < x.shape[1])).all()):
        raise InvalidValueError(
            "a row outside of x", where="index", expected=f"0 <= index < {x.shape[1]}, the rows of a sequence"
        )
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def scatter_rows_(out: Tensor, positions: Tensor, x: Tensor) -> None:
    """See `sparsecore.ops.scatter_rows_`; differentiable, and without shapes that depend on the data."""
    if out.shape[1] == 0 or positions.shape[1] == 0:
        return
    source = row_sources(positions, out.shape[1])
    rows = x.gather(1, source.clamp(min=0)[..., None].expand(*source.shape, x.shape[2]))
    out.copy_(torch.where((source >= 0)[..., None], rows, out))


def row_sources(positions: Tensor, rows: int) -> Tensor:
    """Return int64 [B, rows]: the last slot of positions [B, m] that names each row, -1 where none does."""
    inside = torch.where((positions >= 0) & (positions < rows), positions, rows)
    slots = torch.arange(positions.shape[1], device=positions.device).expand_as(positions)
    source = positions.new_full((len(positions), rows + 1), -1)
    return source.scatter_reduce(1, inside, slots, "amax")[:, :rows]


def _check_counts(counts: Tensor, keep: Tensor, slots: int, width: int) -> None:
    if counts.numel() and not bool(((counts >= 0) & (counts <= slots)).all()):
        raise InvalidValueError(
            f"counts are {counts.tolist()}", where="counts", expected=f"0 <= count <= {slots}, the scores of a sequence"
        )
    if keep.numel() and not bool(((keep >= 0) & (keep <= counts) & (keep <= width)).all()):
        raise InvalidValueError(
            f"keep is {keep.tolist()} of {counts.tolist()}, width {width}",
            where="keep",
            expected="0 <= keep <= its count and the width",
        )
