"""Whether a call may run its kernel without the dispatcher, which takes as long as a small layer does for one token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["needs_gradient", "runs_directly"]


def runs_directly(x: Tensor, bias: Tensor | None = None, on_cpu: bool = True) -> bool:
    """Whether a call needs nothing of the dispatcher: plain tensors on the CPU, and nothing that traces, maps or casts.

    on_cpu: False asks for tensors on a CUDA device instead.
    """
    return (
        not torch.compiler.is_compiling()
        and type(x) is Tensor
        and (x.is_cpu if on_cpu else x.is_cuda)
        and not x.is_neg()
        and not torch.is_autocast_enabled("cpu" if on_cpu else "cuda")  # operators leave it
        and (
            bias is None
            or ((type(bias) is nn.Parameter or type(bias) is Tensor) and (bias.is_cpu if on_cpu else bias.is_cuda))
        )
        and torch._C._functorch.peek_interpreter_stack() is None  # vmap and its kin wrap plain tensors
        and not torch._C._is_tracing()
        and not is_in_torch_dispatch_mode()
    )


def needs_gradient(x: Tensor, bias: Tensor | None = None) -> bool:
    """Whether autograd has to see the call; a tensor shows no tangent, so any forward-mode level says yes."""
    return (
        torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad))
    ) or forward_ad._current_level >= 0
