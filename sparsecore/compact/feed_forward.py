"""Taking neurons out of the feed-forward part of a transformer layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsecore.compact.slices import bias_of, keep_inputs, keep_outputs, matrix_of, zero_inputs, zero_outputs
from sparsecore.models.blocks import Block

__all__ = ["shrink_feed_forward"]


def shrink_feed_forward(layer: nn.Module, block: Block) -> int:
    """Remove the neurons of `layer` that add nothing that depends on the input; return how many.

    A neuron goes if nothing reads it (its column of the projection back is zero), or if it is constant because its row
    of the projections into the part is zero. What a constant neuron adds moves into the bias of the projection back,
    in double precision and one rounding; where there is no bias such a neuron stays. At least one neuron is kept.
    """
    ups, down = [layer.get_submodule(path) for path in block.up], layer.get_submodule(block.down)
    unread = zero_inputs(down)
    constant, value = _constants(ups, layer.get_submodule(block.activation))
    constant &= ~unread & ((value == 0) | (down._parameters.get("bias") is not None))
    gone = unread | constant
    if gone.all():
        gone[0] = False
        constant[0] = False
    if not gone.any():
        return 0
    _fold(down, torch.where(constant, value, 0))
    keep = torch.nonzero(~gone).flatten()
    for up in ups:
        keep_outputs(up, keep)
    keep_inputs(down, keep)
    return int(gone.sum())


def _constants(ups: list[nn.Module], activation: nn.Module) -> tuple[Tensor, Tensor]:
    """(bool, value) of every neuron: whether it does not depend on the input, and what it then is."""
    with torch.no_grad():
        fixed = [zero_outputs(up) for up in ups]
        first = activation(bias_of(ups[0]))
        if len(ups) == 1:
            return fixed[0], first
        # gate * up: constant where both are, and zero where one of them is a constant zero.
        second = bias_of(ups[1])
        zero = (fixed[0] & (first == 0)) | (fixed[1] & (second == 0))
        return (fixed[0] & fixed[1]) | zero, torch.where(zero, 0, first * second)


def _fold(down: nn.Module, value: Tensor) -> None:
    bias = down._parameters.get("bias")
    if bias is not None and bool((value != 0).any()):
        added = matrix_of(down).double() @ value.double()
        with torch.no_grad():
            bias.copy_((bias.double() + added).to(bias.dtype))
