"""One-shot pruning of a whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sparsecore.errors import InvalidValueError, UnknownNameError, nearest
from sparsecore.patterns import NM, Pattern, parse
from sparsecore.prune.recipes import RECIPES
from sparsecore.prune.summary import LayerSummary, PruneSummary
from sparsecore.prune.targets import FilterFn, Target, find_targets

__all__ = ["Scope", "one_shot", "prune_tensors"]

Scope = Literal["layer", "global"]


def one_shot(
    model: nn.Module,
    method: str = "magnitude",
    pattern: str | Pattern = "2:4",
    *,
    sparsity: float = 0.9,
    scope: Scope = "layer",
    filter_fn: FilterFn | None = None,
) -> PruneSummary:
    """Set weights of `model` to zero in place, without training, and say what was done.

    Pruned are nn.Linear, transformers' Conv1D and fused experts, fp32, fp16 or bf16, of any shape. Layers whose weight
    belongs to something else as well (a tied embedding) or is computed are left alone and listed in the summary. The
    same weights give the same zeros, on every machine.

    Parameters
    ----------
    model: changed in place; parameters keep their identity.
    method: name of a recipe; "magnitude" keeps the largest |w|, "magnitude-vnm" (2:m, m > 4) those of four columns of
        every group that 128 rows share, which GPUs multiply as 2:4.
    pattern: "N:M" along the input dimension, `Block(rows, cols)`, `Unstructured()`, or their text form. N:M keeps the n
        best of every group, ties to the lower index. A block is scored by the L1 norm of its weights over their number.
    sparsity: share of the blocks (or weights) that become zero, in [0, 1): round(sparsity * count) of them, a half
        rounded up. N:M fixes its own share and does not read it.
    scope: "layer": that share of each layer. "global": of all layers together; each layer's scores are first divided by
        their root mean square. N:M fixes the share of each group, so it has no global form.
    filter_fn: filter_fn(module, name) -> False leaves a module alone.

    Raises
    ------
    UnknownNameError: no such method or pattern.
    InvalidValueError: sparsity or scope out of range, scope "global" with N:M, or nothing to prune.
    """
    chosen = parse(pattern)
    targets, skipped = find_targets(model, filter_fn)
    if not targets:
        raise InvalidValueError(
            "no layer of the model can be pruned",
            where=type(model).__name__,
            expected="nn.Linear, transformers' Conv1D or fused experts that filter_fn lets through",
            hint="; ".join(f"{layer.name}: {layer.reason}" for layer in skipped[:3]),
        )
    layers = _prune_targets(targets, method, chosen, sparsity, scope)
    return PruneSummary(method, chosen.name, scope, tuple(layers), tuple(skipped))


def prune_tensors(
    weights: Mapping[str, Tensor],
    method: str = "magnitude",
    pattern: str | Pattern = "2:4",
    *,
    sparsity: float = 0.9,
    scope: str = "layer",
) -> PruneSummary:
    """Prune `weights`, [out_features, in_features] each, in place; arguments and errors as `one_shot`."""
    chosen = parse(pattern)
    if not weights:
        raise InvalidValueError("there is no weight to prune", expected="at least one matrix")
    targets = [Target(name, weight.detach()) for name, weight in weights.items()]
    layers = _prune_targets(targets, method, chosen, sparsity, scope)
    return PruneSummary(method, chosen.name, scope, tuple(layers))


def _prune_targets(
    targets: Sequence[Target], method: str, pattern: Pattern, sparsity: float, scope: str
) -> list[LayerSummary]:
    _check(method, pattern, sparsity, scope)
    with torch.no_grad():
        # Per layer, one mask lives at a time; ranking globally needs the scores of all layers at once.
        batches = [list(targets)] if scope == "global" else [[target] for target in targets]
        return [layer for batch in batches for layer in _prune_batch(batch, method, pattern, sparsity, scope)]


def _prune_batch(batch: list[Target], method: str, pattern: Pattern, sparsity: float, scope: str) -> list[LayerSummary]:
    masks = RECIPES[method]([target.weight for target in batch], pattern, sparsity, scope)
    return [_apply(target, keep, pattern) for target, keep in zip(batch, masks, strict=True)]


def _apply(target: Target, keep: Tensor, pattern: Pattern) -> LayerSummary:
    weight = target.weight
    before = weight.abs().sum(dtype=torch.float64).item()
    weight.masked_fill_(~keep, 0)
    after = weight.abs().sum(dtype=torch.float64).item()
    zeros = weight.numel() - int(torch.count_nonzero(weight))
    shape = (weight.shape[0], weight.shape[1])
    return LayerSummary(target.name, pattern.name, shape, zeros, after / before if before else 1.0)


def _check(method: str, pattern: Pattern, sparsity: float, scope: str) -> None:
    if method not in RECIPES:
        raise UnknownNameError(f"no such pruning method: {method!r}", hint=nearest(method, RECIPES))
    if scope not in get_args(Scope):
        raise InvalidValueError(f"no such scope: {scope!r}", where="scope", expected='"layer" or "global"')
    if isinstance(pattern, NM):
        if scope == "global":
            raise InvalidValueError(
                f"{pattern.name} fixes the share of every group, so its scope cannot be global",
                where="scope",
                hint='scope="layer", or a block or unstructured pattern',
            )
    elif not 0 <= sparsity < 1:
        raise InvalidValueError(
            f"sparsity is {sparsity}", where="sparsity", expected="a share in [0, 1)", hint="0.9 drops nine of ten"
        )
