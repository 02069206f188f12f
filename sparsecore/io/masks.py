"""Masked weights: the `NAME_orig` and `NAME_mask` pairs that torch.nn.utils.prune leaves in a state dict."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from sparsecore.errors import CorruptFileError

__all__ = ["fold_masks"]


def fold_masks(tensors: Mapping[str, Tensor], where: str, keep: Collection[str] = ()) -> dict[str, Tensor]:
    """Return `tensors` with every pair `X_orig`, `X_mask` replaced by `X`, zero where the mask is.

    Pairs whose `X_orig` is in `keep` stay: the model that they are meant for is masked itself. Raises CorruptFileError
    where the two shapes differ or `X` is there as well.
    """
    folded = dict(tensors)
    for name in tensors:
        base = name.removesuffix("_orig")
        mask = tensors.get(f"{base}_mask")
        if base == name or mask is None or name in keep:
            continue
        original = folded.pop(name)
        del folded[f"{base}_mask"]
        if mask.shape != original.shape or base in folded:
            raise CorruptFileError(
                "a weight and its mask do not fit" if mask.shape != original.shape else "a weight is there twice",
                where=f"{where}: {base}",
                expected=f"{base}_mask of shape {list(original.shape)} and no {base}",
            )
        # Not a product: infinity times zero would be NaN.
        folded[base] = torch.where(mask != 0, original, torch.zeros((), dtype=original.dtype))
    return folded
