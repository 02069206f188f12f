"""The fastest dense linear layer that torch has: oneDNN with a weight that was put into its layout beforehand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["prepacked_linear"]


def prepacked_linear(weight: Tensor, bias: Tensor | None, tokens: int) -> Callable[[Tensor], Tensor] | None:
    """Return x [tokens, in_features] -> x W^T + b on a weight laid out for `tokens`; None where oneDNN has no such.

    These are the operators that torch's own compiler uses (torch._inductor, freezing).
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    try:
        laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, tokens)
        torch.ops.mkldnn._linear_pointwise(weight.new_zeros(tokens, weight.shape[1]), laid_out, bias, "none", [], "")
    except RuntimeError:  # a type that this machine has no oneDNN product for
        return None

    def linear(x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid_out, bias, "none", [], "")
        return out

    return linear
