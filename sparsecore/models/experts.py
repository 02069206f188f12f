"""Fused experts of transformers (Mixtral and relatives): all experts' weights in one 3-D parameter a projection.

transformers marks the modules that follow the convention with flags on the instance (set by its
`use_experts_implementation` decorator); a module without them is not served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

__all__ = ["ExpertLayout", "expert_layout"]


@dataclass(frozen=True, slots=True)
class ExpertLayout:
    """How one fused-experts module computes.

    up, down: names of the 3-D parameters, [experts, out, in], or [experts, in, out] where `transposed`.
    up_bias, down_bias: names of the 2-D biases [experts, out], or None.
    middle: what happens between the projections, called as middle(module, tensor [tokens, up_out]).
    post_norm: name of a module applied after `down`, or None.
    """

    up: str
    down: str
    up_bias: str | None
    down_bias: str | None
    transposed: bool
    middle: Callable[[nn.Module, torch.Tensor], torch.Tensor]
    post_norm: str | None


def _activation(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return cast("torch.Tensor", module.get_submodule("act_fn")(x))


def expert_layout(module: nn.Module) -> ExpertLayout | None:
    """Return the layout of a fused-experts module, or None where `module` does not follow the convention."""
    flags = ("num_experts", "has_gate", "has_bias", "is_transposed")
    if not all(hasattr(module, flag) for flag in flags) or getattr(module, "_is_expert_parallel", False):
        return None
    gated, biased = bool(module.has_gate), bool(module.has_bias)
    up, down = ("gate_up_proj" if gated else "up_proj"), "down_proj"
    if not all(isinstance(p := getattr(module, n, None), nn.Parameter) and p.ndim == 3 for n in (up, down)):
        return None
    middle = getattr(type(module), "_apply_gate", None) if gated else _activation
    if middle is None:
        return None
    return ExpertLayout(
        up=up,
        down=down,
        up_bias=f"{up}_bias" if biased else None,
        down_bias=f"{down}_bias" if biased else None,
        transposed=bool(module.is_transposed),
        middle=middle,
        post_norm="post_expert_norm" if getattr(module, "has_post_expert_norm", False) else None,
    )
