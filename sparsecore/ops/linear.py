"""Linear layers with a sparse weight in its resident form.

`packed_linear` serves any kind of weight; `nm_linear`, `bitmask_linear` and `block_linear` name the kind and its sizes,
and refuse a resident tensor of another kind. All compute y = activation(x W^T + bias).

Gradients: to `x` and `bias` always; if the optional leaf `weight` [out_features, in_features] is given, a dense one to
it (its values are not read). The backward pass unpacks the weight for the time of one product. Second derivatives work,
the leaf's share included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from sparsecore.backends.cpu import linear as cpu
from sparsecore.backends.cuda import linear as cuda
from sparsecore.backends.reference import linear as reference
from sparsecore.devices import require_one_device
from sparsecore.errors import DtypeError, NamedError, ShapeError, UnknownNameError, nearest
from sparsecore.ops.direct import needs_gradient
from sparsecore.ops.library import define
from sparsecore.resident import Expected

__all__ = [
    "bitmask_linear",
    "block_linear",
    "direct_linear",
    "nm_linear",
    "packed_grad_input",
    "packed_linear",
    "packed_to_dense",
]


class Backend(Protocol):
    """A back end's forward kernel."""

    def packed_linear(
        self, x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, expected: Expected
    ) -> Tensor: ...


class GradBackend(Protocol):
    """A back end's kernel for the gradient of the input."""

    def packed_grad_input(self, grad: Tensor, packed: Tensor, expected: Expected) -> Tensor: ...


class DenseBackend(Protocol):
    """A back end that makes a resident weight dense."""

    def packed_to_dense(self, packed: Tensor, expected: Expected) -> Tensor: ...


def _check(x: Tensor, bias: Tensor | None, rows: int, cols: int, activation: str, weight: Tensor | None) -> None:
    if x.dim() == 0 or x.shape[-1] != cols:
        raise ShapeError(f"the input is {list(x.shape)}", where="x", expected=f"[..., {cols}]")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != rows):
        raise ShapeError(f"the bias is {list(bias.shape)}", where="bias", expected=f"[{rows}]")
    if weight is not None and (weight.dim() != 2 or weight.shape[0] != rows or weight.shape[1] != cols):
        raise ShapeError(f"the weight is {list(weight.shape)}", where="weight", expected=f"[{rows}, {cols}]")
    if activation not in reference.ACTIVATIONS:
        raise UnknownNameError(
            f"no activation {activation!r}", where="activation", hint=nearest(str(activation), reference.ACTIVATIONS)
        )


def _sized(backend: Backend, kind: str) -> Callable[..., Tensor]:
    """Kernel of an operator that names the two sizes of its pattern."""

    def kernel(
        x: Tensor,
        packed: Tensor,
        bias: Tensor | None,
        out_features: int,
        in_features: int,
        first: int,
        second: int,
        activation: str = "none",
        weight: Tensor | None = None,
    ) -> Tensor:
        _check(x, bias, out_features, in_features, activation, weight)
        return backend.packed_linear(x, packed, bias, activation, (kind, out_features, in_features, first, second))

    return kernel


def _plain(backend: Backend, kind: str) -> Callable[..., Tensor]:
    """Kernel of an operator without sizes: unstructured, or any kind ("")."""

    def kernel(
        x: Tensor,
        packed: Tensor,
        bias: Tensor | None,
        out_features: int,
        in_features: int,
        activation: str = "none",
        weight: Tensor | None = None,
    ) -> Tensor:
        _check(x, bias, out_features, in_features, activation, weight)
        return backend.packed_linear(x, packed, bias, activation, (kind, out_features, in_features, 0, 0))

    return kernel


class _Shapes:
    """The back end of fake tensors: results have the right shape and no values."""

    @staticmethod
    def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, expected: Expected) -> Tensor:
        require_one_device("the input", x, weight=packed)
        return x.new_empty((*x.shape[:-1], expected[1]))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, packed, bias, ctx.rows, ctx.cols = inputs[:5]
    ctx.activation, weight = inputs[-2:]
    ctx.inputs = len(inputs)
    curved = ctx.activation != "none"
    # The input is kept only where a gradient needs it; a layer that passes a gradient on holds no activations.
    ctx.save_for_backward(x if curved or weight is not None else None, packed, bias if curved else None, weight)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, packed, bias, weight = ctx.saved_tensors
    rows, cols = ctx.rows, ctx.cols
    if ctx.activation != "none":
        before = packed_linear(x, packed, bias, rows, cols, "none", weight)
        grad = _ACTIVATION_GRADIENTS[ctx.activation](grad, before)
    grads: list[Tensor | None] = [None] * ctx.inputs
    if ctx.needs_input_grad[0]:
        grads[0] = packed_grad_input(grad, packed, rows, cols, weight)
    if ctx.needs_input_grad[2]:
        grads[2] = _matrix(grad).sum(0, dtype=torch.float32).to(ctx.bias_dtype)
    if ctx.needs_input_grad[-1]:
        grads[-1] = _matrix(grad).t() @ _matrix(x)
    return tuple(grads)


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


# (gradient of the output, value before the activation) -> gradient of that value.
_ACTIVATION_GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda grad, x: torch.where(x > 0, grad, 0),
    "gelu": torch.ops.aten.gelu_backward,
    "gelu_tanh": lambda grad, x: torch.ops.aten.gelu_backward(grad, x, approximate="tanh"),
    "silu": lambda grad, x: _silu_gradient(grad.float(), x.float()).to(grad.dtype),
}


def _silu_gradient(grad: Tensor, x: Tensor) -> Tensor:
    # Written out, because torch's silu_backward has no derivative of its own.
    share = torch.sigmoid(x)
    return grad * share * (1 + x * (1 - share))


def _define_linear(name: str, kind: str, sizes: str, factory: Callable[[Backend, str], Callable[..., Tensor]]) -> Any:
    return define(
        f"{name}(Tensor x, Tensor packed, Tensor? bias, int out_features, int in_features, {sizes}"
        'str activation="none", Tensor? weight=None) -> Tensor',
        fake=factory(_Shapes, kind),
        backward=_backward,
        setup_context=_save,
        CPU=factory(cpu, kind),
        CUDA=factory(cuda, kind),
        CompositeExplicitAutograd=factory(reference, kind),
    )


nm_linear = _define_linear("nm_linear", "nm", "int n, int m, ", _sized)
block_linear = _define_linear("block_linear", "block", "int block_rows, int block_cols, ", _sized)
bitmask_linear = _define_linear("bitmask_linear", "bitmask", "", _plain)
packed_linear = _define_linear("packed_linear", "", "", _plain)


class _DirectLinear(torch.autograd.Function):
    """The operators' gradient for a direct call: through the dispatcher the wrapper alone takes some 30 us."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        packed: Tensor,
        bias: Tensor | None,
        rows: int,
        cols: int,
        expected: Expected,
        backend: Backend,
        activation: str,
        weight: None,
    ) -> Tensor:
        out = backend.packed_linear(x, packed, bias, activation, expected)
        _save(ctx, (x, packed, bias, rows, cols, expected, backend, activation, weight), out)
        return out

    backward = staticmethod(_backward)


def direct_linear(
    x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, expected: Expected, backend: Backend
) -> Tensor:
    """Run a kernel of the linear operators without the dispatcher; the caller asks `runs_directly` first."""
    try:
        if needs_gradient(x, bias):
            apply: Callable[..., Tensor] = _DirectLinear.apply
            return apply(x, packed, bias, *expected[1:3], expected, backend, activation, None)
        return backend.packed_linear(x, packed, bias, activation, expected)
    except (NamedError, TypeError):  # TypeError: an activation that is no text
        # The compiled module checks the same things; only a refusal is worth the time of saying them in torch's terms.
        _check(x, bias, expected[1], expected[2], activation, None)
        raise


def _grad_input(backend: GradBackend) -> Callable[..., Tensor]:
    def kernel(
        grad: Tensor, packed: Tensor, out_features: int, in_features: int, weight: Tensor | None = None
    ) -> Tensor:
        if grad.dim() == 0 or grad.shape[-1] != out_features:
            raise ShapeError(f"the gradient is {list(grad.shape)}", where="grad", expected=f"[..., {out_features}]")
        return backend.packed_grad_input(grad, packed, ("", out_features, in_features, 0, 0))

    return kernel


def _grad_input_fake(
    grad: Tensor, packed: Tensor, out_features: int, in_features: int, weight: Tensor | None = None
) -> Tensor:
    require_one_device("the gradient", grad, weight=packed)
    return grad.new_empty((*grad.shape[:-1], in_features))


def _grad_input_save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, packed, ctx.rows, ctx.cols, weight = inputs
    ctx.save_for_backward(grad if weight is not None else None, packed, weight)


def _grad_input_backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
    grad, packed, weight = ctx.saved_tensors
    towards = leaf = None
    if ctx.needs_input_grad[0]:
        towards = packed_linear(second, packed, None, ctx.rows, ctx.cols, "none", weight)
    if weight is not None and ctx.needs_input_grad[4]:  # a default that was not given has no place in the tuple
        leaf = _matrix(grad).t() @ _matrix(second)
    return towards, None, None, None, leaf


packed_grad_input = define(
    "packed_grad_input(Tensor grad, Tensor packed, int out_features, int in_features, Tensor? weight=None) -> Tensor",
    fake=_grad_input_fake,
    backward=_grad_input_backward,
    setup_context=_grad_input_save,
    CPU=_grad_input(cpu),
    CUDA=_grad_input(cuda),
    CompositeExplicitAutograd=_grad_input(reference),
)


def _to_dense(backend: DenseBackend) -> Callable[..., Tensor]:
    def kernel(packed: Tensor, out_features: int, in_features: int, dtype: torch.dtype) -> Tensor:
        dense = backend.packed_to_dense(packed, ("", out_features, in_features, 0, 0))
        if dense.dtype != dtype:
            raise DtypeError(f"the resident weight is {dense.dtype}", where="dtype", expected=str(dtype))
        return dense

    return kernel


packed_to_dense = define(
    "packed_to_dense(Tensor packed, int out_features, int in_features, ScalarType dtype) -> Tensor",
    fake=lambda packed, out_features, in_features, dtype: packed.new_empty((out_features, in_features), dtype=dtype),
    CUDA=_to_dense(cuda),
    CompositeExplicitAutograd=_to_dense(reference),
)
