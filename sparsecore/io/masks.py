"""Masked weights: the mask that a pruning tool keeps beside a dense weight is applied when the weight is read.

Known are the `NAME_orig` and `NAME_mask` pairs of torch.nn.utils.prune, the hooks of NNCF 3 in a state dict
(`__nncf_hooks.post_hooks.fc:weight__0.0.binary_mask` for `fc.weight`, or `.mask` with the logits of its
regularisation-based method, which keeps where they are positive), and mask files of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from sparsecore.errors import CorruptFileError, KeyMismatchError
from sparsecore.io.tensors import LazyTensor, LazyTensors

__all__ = ["apply_masks", "fold_masks"]

_NNCF = re.compile(r"(?P<prefix>.*?)__nncf_hooks\.post_hooks\.(?P<op>.+)__0\.\d+\.(?P<kind>binary_mask|mask)")
_SUFFIXES = ("_mask", ".mask")


def fold_masks(tensors: Mapping[str, LazyTensor], where: str, keep: Collection[str] = ()) -> LazyTensors:
    """Return `tensors` with every masked weight as one tensor, zero where its mask is, under its plain name.

    Pairs whose `X_orig` is in `keep` stay: the model that they are meant for is masked itself.

    Raises CorruptFileError where a mask has another shape than its weight or a weight is there twice; when the weight
    is read, where the mask holds other values than 0 and 1.
    """
    folded = dict(tensors)
    for name, original in tensors.items():
        base = name.removesuffix("_orig")
        mask = tensors.get(f"{base}_mask")
        if base == name or mask is None or name in keep:
            continue
        del folded[name], folded[f"{base}_mask"]
        if base in folded:
            raise CorruptFileError(
                "a weight is there twice", where=f"{where}: {base}", expected=f"{name} with its mask, or {base}"
            )
        folded[base] = _masked(original, mask, f"{where}: {base}")
    for name, mask in tensors.items():
        match = _NNCF.fullmatch(name)
        weight = match["prefix"] + match["op"].replace(":", ".") if match else ""
        if match is not None and weight in folded:
            del folded[name]
            logits = match["kind"] == "mask"
            folded[weight] = _masked(folded[weight], mask, f"{where}: {weight}", logits=logits)
    return LazyTensors(folded)


def apply_masks(tensors: LazyTensors, masks: LazyTensors, where: str) -> LazyTensors:
    """Return `tensors` masked by those of a file of its own, `where`, which names the weights in one of these ways:
    `fc.weight`, `fc.weight_mask`, `fc.weight.mask`, or `fc` where there is an `fc.weight`.

    Raises KeyMismatchError for a mask of no weight, CorruptFileError as `fold_masks`.
    """
    masked = tensors.entries()
    for name, mask in masks.entries().items():
        weight = next((known for known in _names(name) if known in tensors), None)
        if weight is None:
            raise KeyMismatchError(
                f"no weight for the mask {name!r}", where=where, expected="masks named as the weights of the checkpoint"
            )
        masked[weight] = _masked(masked[weight], mask, f"{where}: {name}")
    return LazyTensors(masked)


def _names(mask: str) -> Iterator[str]:
    yield mask
    yield from (mask.removesuffix(suffix) for suffix in _SUFFIXES if mask.endswith(suffix))
    yield f"{mask}.weight"


def _masked(weight: LazyTensor, mask: LazyTensor, where: str, logits: bool = False) -> LazyTensor:
    if mask.shape != weight.shape:
        raise CorruptFileError(
            "a weight and its mask do not fit", where=where, expected=f"a mask of shape {list(weight.shape)}"
        )

    def read() -> Tensor:
        values, kept = weight.read(), mask.read()
        if logits:
            kept = kept > 0
        elif not bool(((kept == 0) | (kept == 1)).all()):
            raise CorruptFileError("a mask holds other values than 0 and 1", where=where, expected="0 or 1")
        # Not a product: infinity times zero would be NaN.
        return torch.where(kept != 0, values, torch.zeros((), dtype=values.dtype))

    return LazyTensor(weight.shape, weight.dtype, read, (weight.place, mask.place), derived=True)
