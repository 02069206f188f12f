"""Finds the weights of a model that can be pruned, as [out_features, in_features] views of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils import parametrize

from sparsecore.models import expert_layout, is_conv1d
from sparsecore.nn import SparseLinear
from sparsecore.prune.summary import SkippedLayer

__all__ = ["FilterFn", "Target", "find_targets"]

FilterFn = Callable[[nn.Module, str], bool]
"""filter_fn(module, name) -> whether to prune the module, as in torchao's `sparsify_`."""


@dataclass(frozen=True)
class Target:
    """One weight to prune: `weight` is a view [out_features, in_features] that writes through to the parameter."""

    name: str
    weight: Tensor


def find_targets(model: nn.Module, filter_fn: FilterFn | None = None) -> tuple[list[Target], list[SkippedLayer]]:
    """Return the weights of `model` to prune, each once, and the layers left alone with the reason.

    Taken are nn.Linear, transformers' Conv1D ([in, out], handed out transposed) and fused 3-D expert parameters (one
    target an expert). The order is that of `named_modules`.
    """
    targets: list[Target] = []
    skipped: list[SkippedLayer] = []
    owners = _owners(model)
    seen: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear):
            skipped.append(SkippedLayer(name, "it is packed already; prune before packing"))
        for label, parameter, views in _candidates(name, module):
            if filter_fn is not None and not filter_fn(module, name):
                continue
            if parameter is None:
                skipped.append(SkippedLayer(label, "its weight is computed (parametrised or masked)"))
            elif not parameter.is_floating_point():
                skipped.append(SkippedLayer(label, f"its weight is {parameter.dtype}, not floating point"))
            elif parameter.is_meta:
                skipped.append(SkippedLayer(label, "its weight is on the meta device and has no values"))
            elif others := [owner for owner, prunable in owners[id(parameter)] if not prunable]:
                skipped.append(SkippedLayer(label, f"its weight is shared with {', '.join(others)}"))
            elif id(parameter) not in seen:
                seen.add(id(parameter))
                targets += [Target(label + suffix, view) for suffix, view in views]
    return targets, skipped


def _candidates(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Parameter | None, list[tuple[str, Tensor]]]]:
    """Yield (label, parameter or None where the weight is computed, [(suffix, view [out, in])])."""
    if isinstance(module, nn.Linear) or is_conv1d(module):
        weight = module._parameters.get("weight")
        if weight is None or parametrize.is_parametrized(module, "weight"):
            yield name, None, []
        else:
            view = weight.detach()
            yield name, weight, [("", view if isinstance(module, nn.Linear) else view.t())]
    elif (layout := expert_layout(module)) is not None:
        for attribute in (layout.up, layout.down):
            stack = module.get_parameter(attribute)
            views = stack.detach().transpose(1, 2) if layout.transposed else stack.detach()
            yield f"{name}.{attribute}", stack, [(f"[{i}]", view) for i, view in enumerate(views.unbind(0))]


def _owners(model: nn.Module) -> dict[int, list[tuple[str, bool]]]:
    """Map id(parameter) to the (name, whether it may be pruned through it) of all modules that hold it."""
    found: dict[int, list[tuple[str, bool]]] = {}
    for name, module in model.named_modules():
        prunable = {id(parameter) for _, parameter, _ in _candidates(name, module) if parameter is not None}
        for attribute, parameter in module._parameters.items():
            if parameter is not None:
                owner = f"{name}.{attribute}" if name else attribute
                found.setdefault(id(parameter), []).append((owner, id(parameter) in prunable))
    return found
