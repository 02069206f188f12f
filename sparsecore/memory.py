"""Memory for what kernels stream: large tensors lie in mappings of their own, in huge pages if the system has them."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["zeros"]

_HUGE = 2**21


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Return a tensor of zeros; never an inference tensor, since those have no version counter.

    On the CPU and from 2 MiB on it has a mapping of its own that asks for huge pages: with pages of 4 KiB a kernel that
    streams it waits for address translation. The mapping goes back to the system whole when the tensor is freed.
    """
    size = math.prod(shape) * dtype.itemsize
    with torch.inference_mode(False):
        if size < _HUGE or torch.device(device).type != "cpu":
            return torch.zeros(shape, dtype=dtype, device=device)
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
        return torch.frombuffer(memory, dtype=dtype).view(*shape)
