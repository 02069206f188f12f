"""Implementations of the operators, one folder a back end, with the same file names in each.

`reference` is pure torch and defines what an operator means; `cpu` calls the compiled kernels; `cuda` calls the kernels
of the GPU where the build has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor

from sparsecore.patterns import Pattern

__all__ = ["Formats", "formats"]


class Formats(Protocol):
    """What a back end offers to pack weights; signatures and meaning as in `reference.formats`."""

    def pack(self, dense: Tensor, pattern: Pattern) -> dict[str, Tensor]: ...  # noqa: D102

    def unpack(self, pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor: ...  # noqa: D102

    def validate(self, pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None: ...  # noqa: D102


def formats(device: torch.device) -> Formats:
    """Pack and unpack functions for tensors on `device`: compiled on the CPU, pure torch elsewhere."""
    # Imported here: a back end imports the package that this function is part of.
    if device.type == "cpu":
        from sparsecore.backends.cpu import formats as module
    else:
        from sparsecore.backends.reference import formats as module  # type: ignore[no-redef]
    return cast(Formats, module)
