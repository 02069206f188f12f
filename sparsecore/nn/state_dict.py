"""State dicts with packed weights: finding the stored tensors of a layer, and turning them back into dense ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsecore.errors import NamedError
from sparsecore.formats import from_tensors
from sparsecore.models import expert_layout, is_conv1d
from sparsecore.nn.weights import named_for

__all__ = ["STORED_NAMES", "dense_state_dict", "split_state"]

# Names of the tensors of every stored form (docs/formats.md).
STORED_NAMES = (
    "shape",
    "compressed",
    "bitmask",
    "codes",
    "scales",
    "nm",
    "row_offsets",
    "blocks",
    "block_cols",
    "block_row_offsets",
    "block",
)


def split_state(state: Mapping[str, Any], prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the stored tensors of the layer at `prefix`, by their short names, and all other entries of `state`.

    compressed-tensors writes the same tensors as ``<layer>.weight.<name>``; both are taken.
    """
    ours = {prefix + middle + name: name for name in STORED_NAMES for middle in ("", "weight.")}
    stored = {ours[key]: value for key, value in state.items() if key in ours}
    return stored, {key: value for key, value in state.items() if key not in ours}


def dense_state_dict(state: Mapping[str, Tensor], like: nn.Module | None = None) -> dict[str, Tensor]:
    """Return `state` with every packed weight as a dense ``weight``, for models without packed layers.

    `like` is a model, sparsified or not, with the layer names of `state`. It tells what the state cannot: which weights
    are [in_features, out_features] (transformers' Conv1D) and which experts are slices of one 3-D parameter. Without it
    each packed weight becomes [out_features, in_features] at ``<layer>.weight``. Raises the errors of
    `sparsecore.from_tensors`, with the layer, where stored tensors are damaged.
    """
    modules = dict(like.named_modules()) if like is not None else {}
    dense: dict[str, Tensor] = {}
    rest: Mapping[str, Tensor] = state
    for prefix in _packed_prefixes(state):
        stored, rest = split_state(rest, prefix)
        try:
            weight = from_tensors(stored).unpack()
        except NamedError as error:
            raise named_for(error, prefix[:-1]) from error
        dense[f"{prefix}weight"] = weight.t().contiguous() if _is_transposed(modules.get(prefix[:-1])) else weight
    dense.update(rest)
    for name, module in modules.items():
        _stack_experts(dense, f"{name}." if name else "", module)
    return dense


def _packed_prefixes(state: Mapping[str, Tensor]) -> list[str]:
    found = []
    for key in state:
        before, _, last = key.rpartition("shape")
        if last or not any(before + name in state for name in ("compressed", "blocks")):
            continue
        found.append(before.removesuffix("weight.") if f".{before}".endswith(".weight.") else before)
    return found


def _is_transposed(module: nn.Module | None) -> bool:
    return module is not None and (is_conv1d(module) or bool(getattr(module, "transposed", False)))


def _stack_experts(dense: dict[str, Tensor], prefix: str, module: nn.Module) -> None:
    layout = expert_layout(module) or getattr(module, "layout", None)
    if layout is None:
        return
    for name in (layout.up, layout.down):
        count = 0
        while f"{prefix}{name}.{count}.weight" in dense:
            count += 1
        slices = [dense.pop(f"{prefix}{name}.{index}.weight") for index in range(count)]
        if slices:
            stacked = torch.stack(slices)
            dense[f"{prefix}{name}"] = stacked.transpose(1, 2).contiguous() if layout.transposed else stacked
