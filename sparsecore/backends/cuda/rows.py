"""Moving rows on a CUDA device, on the current stream and without a synchronisation.

The meaning is in `reference.rows`. Rows travel as bytes. Builds without kernels compute by the reference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.backends.cuda import device
from sparsecore.backends.reference import rows as reference
from sparsecore.devices import require_one_device
from sparsecore.native import span, span_of_new

__all__ = ["gather_rows", "scatter_rows_"]


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """See `reference.rows.gather_rows`. A negative index counts from the end; one beyond the rows stops the kernel."""
    require_one_device("x", x, index=index)
    if not device.has_kernels(x):
        return reference.gather_rows(x, index)
    with device.current(x), device.memory_named("gather_rows"):
        out = x.new_empty((*index.shape, x.shape[2]))
        source, target = _bytes(x), out.view(torch.uint8)
        device.module().cuda_gather_rows(span(source), span(index), span_of_new(target), device.stream(x))
    return out


def scatter_rows_(out: Tensor, positions: Tensor, x: Tensor) -> None:
    """See `reference.rows.scatter_rows_`."""
    require_one_device("out", out, positions=positions, x=x)
    if not device.has_kernels(out):
        return reference.scatter_rows_(out, positions, x)
    if out.stride(-1) != 1 and out.shape[-1] > 1:
        whole = out.contiguous()
        scatter_rows_(whole, positions, x)
        out.copy_(whole)
        return None
    with device.current(out), device.memory_named("scatter_rows_"):
        target, source = out.view(torch.uint8), _bytes(x)
        sources = out.new_empty(out.shape[:2], dtype=torch.int32)
        device.module().cuda_scatter_rows(
            span(target), span(positions), span(source), span_of_new(sources), device.stream(out)
        )
    return None


def _bytes(x: Tensor) -> Tensor:
    """x with its last dimension as bytes; a copy where the elements of a row are no neighbours."""
    return (x if x.stride(-1) == 1 else x.contiguous()).view(torch.uint8)
