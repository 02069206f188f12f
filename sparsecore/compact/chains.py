"""Taking channels out of plain models: chains of Linear, Conv and BatchNorm, with residuals.

torch-pruning traces the model and says which channels of which layers must go together; here it is decided which of
them can. A channel can go if nobody reads it (its column of every consumer is zero), or if it is zero for every input
(its row of every producer is zero, or the BatchNorm behind has scale and shift zero, and what follows maps 0 to 0).
Each removal is checked by running the model: one that changes the outputs is taken back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from sparsecore.errors import MissingDependencyError, UnsupportedError
from sparsecore.inputs import evaluating

__all__ = ["shrink_chains"]

_TOLERANCE = 1e-4
"""Largest change of an output, as a share of the largest output: another order of summation, no other values."""


def shrink_chains(model: nn.Module, example_inputs: Any) -> dict[str, int]:
    """Remove the channels of `model` that are zero or not read; return how many for each layer that made them.

    example_inputs: a tuple of positional arguments or a mapping of keyword arguments. Raises MissingDependencyError
    without torch-pruning, UnsupportedError for a model that it cannot trace.
    """
    removed: dict[str, int] = {}
    refused: set[str] = set()
    with evaluating(model):
        expected = _outputs(model, example_inputs)
        while (found := _next(model, example_inputs, removed.keys() | refused)) is not None:
            name, group, channels = found
            if _removed(model, group, channels, example_inputs, expected):
                removed[name] = len(channels)
            else:
                refused.add(name)
    return removed


def _next(model: nn.Module, example_inputs: Any, done: set[str]) -> tuple[str, Any, list[int]] | None:
    """The next group of layers with channels that can go: (layer that makes them, group, channels)."""
    names = {module: name for name, module in model.named_modules()}
    for group in _graph(model, example_inputs).get_all_groups():
        name = names.get(group[0].dep.target.module)
        if name is not None and name not in done and (channels := _removable(group)):
            return name, group, channels
    return None


def _graph(model: nn.Module, example_inputs: Any) -> Any:
    try:
        import torch_pruning
    except ImportError as error:
        raise MissingDependencyError(
            "torch-pruning is not installed",
            where="compact",
            expected="torch-pruning >= 1.6, to know which layers of a plain model depend on each other",
            hint='pip install "sparsecore-kernels[compact]"',
        ) from error
    inputs = dict(example_inputs) if isinstance(example_inputs, Mapping) else example_inputs
    try:
        with torch.enable_grad():  # the trace follows the graph of the gradients
            return torch_pruning.DependencyGraph().build_dependency(model, example_inputs=inputs, verbose=False)
    except Exception as error:
        raise UnsupportedError(
            f"torch-pruning cannot trace the model: {error}", where=type(model).__name__, expected="a traceable forward"
        ) from error


def _removable(group: Any) -> list[int]:
    """The channels of a group that can go, by their number in the layer that makes them; never all."""
    count = len(group[0].idxs)
    unread = torch.ones(count, dtype=torch.bool)
    zero = torch.ones(count, dtype=torch.bool)
    consumers = 0
    silenced = {id(module) for module in _silenced(group)}
    for item in group:
        module = item.dep.target.module
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        if not isinstance(module, nn.Linear | _ConvNd | _BatchNorm) or getattr(module, "groups", 1) != 1:
            return []  # a norm over channels or a grouped convolution: other channels would notice
        idxs, roots = torch.as_tensor(item.idxs), torch.as_tensor(item.root_idxs)
        if item.dep.handler.__name__ == "prune_in_channels":
            consumers += 1
            unread &= _every(~(module.weight.detach() != 0).transpose(0, 1).flatten(1).any(1)[idxs], roots, count)
        elif id(module) not in silenced:
            zero &= _every(_zero_rows(module)[idxs], roots, count)
    if not consumers:
        return []
    gone = unread | zero
    if gone.all():
        gone[0] = False
    return [int(channel) for channel in torch.nonzero(gone).flatten()]


def _silenced(group: Any) -> Iterator[nn.Module]:
    """Layers of a group whose results all go into a BatchNorm: that one alone decides what comes out."""
    for item in group:
        node = item.dep.target
        if isinstance(node.module, nn.Linear | _ConvNd) and item.dep.handler.__name__ != "prune_in_channels":
            after = list(node.outputs)
            if after and all(isinstance(following.module, _BatchNorm) for following in after):
                yield node.module


def _zero_rows(module: nn.Module) -> Tensor:
    """Which outputs of a layer are zero for every input; of a BatchNorm: whatever it is given."""
    bias = module._parameters.get("bias")
    weight = module.get_parameter("weight").detach()
    flat = ~(weight != 0).flatten(1).any(1) if weight.dim() > 1 else weight == 0
    return flat if bias is None else flat & (bias.detach() == 0)


def _every(holds: Tensor, roots: Tensor, count: int) -> Tensor:
    """For each of `count` channels whether `holds` is true at all its places: a channel may be several features."""
    broken = torch.zeros(count, dtype=torch.bool)
    broken[roots[~holds]] = True
    return ~broken


def _removed(model: nn.Module, group: Any, channels: list[int], example_inputs: Any, expected: list[Tensor]) -> bool:
    """Remove channels; put everything back and return False where that changes what the model computes."""
    modules = {item.dep.target.module for item in group}
    kept = [(module, copy.deepcopy(module.__dict__)) for module in modules]
    try:
        group.prune(channels)
        same = _equal(_outputs(model, example_inputs), expected)
    except (RuntimeError, ValueError, IndexError):
        same = False
    if not same:
        for module, state in kept:
            module.__dict__.clear()
            module.__dict__.update(state)
    return same


def _outputs(model: nn.Module, example_inputs: Any) -> list[Tensor]:
    with torch.no_grad():
        result = model(**example_inputs) if isinstance(example_inputs, Mapping) else model(*example_inputs)
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def _equal(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=_TOLERANCE * float(b.abs().max() or 1), equal_nan=True)
        for a, b in zip(found, expected)
    )
