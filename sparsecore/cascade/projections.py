"""Projections of attention that shrink with the heads, where all sequences of a batch keep the same ones.

Rows of the query, key and value weights and columns of the output weight that belong to pruned heads are left out. The
narrowed weights are kept for the last few sets of heads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecore.errors import UnsupportedError
from sparsecore.models.block import Block

__all__ = ["NarrowProjections", "narrowed"]

_SETS_KEPT = 4


class NarrowProjections:
    """Lets the projections of all layers of a model compute the kept heads only, while a layer of a pass runs.

    Which heads those are is known by the state of the pass, that is, by the thread that runs it.

    Raises
    ------
    UnsupportedError: a projection that is not a plain nn.Linear, such as a packed one.
    """

    def __init__(self, layers: nn.ModuleList, block: Block, head_dim: int) -> None:
        self.head_dim = head_dim
        self._kept: dict[int, Tensor] = {}
        self._linears: list[nn.Linear] = []
        for number, layer in enumerate(layers):
            for path in (block.queries, block.keys, block.values, block.out):
                linear = layer.get_submodule(path)
                if type(linear) is not nn.Linear:
                    raise UnsupportedError(
                        f"a {type(linear).__name__} cannot leave out heads",
                        where=f"layer {number}: {path}",
                        expected="nn.Linear",
                        hint='heads="each" leaves the projections whole',
                    )
                self._linears.append(linear)
        for index, linear in enumerate(self._linears):
            side = 1 if index % 4 == 3 else 0
            linear.forward = partial(_forward, linear=linear, side=side, own=self, cache=OrderedDict())  # type: ignore[method-assign]

    def enter(self, heads: Tensor | None) -> None:
        """Compute only `heads` [B, h], equal rows, in this thread, until `leave`."""
        if heads is not None and len(heads):
            self._kept[_thread()] = heads[0]

    def leave(self) -> None:
        """Compute everything again."""
        self._kept.pop(_thread(), None)

    def kept(self) -> Tensor | None:
        """Return the heads [h] of the layer that runs in this thread, or None: all."""
        return self._kept.get(_thread())

    def remove(self) -> None:
        """Give the projections their own forward back."""
        for linear in self._linears:
            del linear.forward
        self._linears = []


def narrowed(
    weight: Tensor, bias: Tensor | None, heads: Tensor, head_dim: int, side: int
) -> tuple[Tensor, Tensor | None]:
    """Return a projection's weight and bias with only the rows (side 0) or columns (side 1) of `heads` [h]."""
    index = (heads[:, None] * head_dim + torch.arange(head_dim, device=heads.device)).flatten()
    return weight.index_select(side, index), bias.index_select(0, index) if bias is not None and side == 0 else bias


def _thread() -> int:
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


def _forward(x: Tensor, *, linear: nn.Linear, side: int, own: NarrowProjections, cache: Any) -> Tensor:
    heads = own.kept()
    if heads is None:
        return functional.linear(x, linear.weight, linear.bias)
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return functional.linear(x, *narrowed(linear.weight, linear.bias, heads, own.head_dim, side))
    key = (tuple(heads.tolist()), linear.weight.data_ptr(), linear.weight._version)
    found = cache.get(key)
    if found is None:
        found = cache[key] = narrowed(linear.weight, linear.bias, heads, own.head_dim, side)
        while len(cache) > _SETS_KEPT:
            cache.popitem(last=False)
    return functional.linear(x, *found)
