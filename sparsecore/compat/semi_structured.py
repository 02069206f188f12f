"""`to_sparse_semi_structured` for CPU tensors of any shape: a 2:4 matrix that torch's own products take.

    linear.weight = nn.Parameter(to_sparse_semi_structured(linear.weight), requires_grad=False)

The tensor holds a PackedWeight. It stands where torch.sparse's semi-structured tensors do, as the weight of F.linear or
as an operand of a matrix product; everything else needs `to_dense()`, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsecore.errors import ShapeError, UnsupportedError
from sparsecore.packed import PackedWeight
from sparsecore.patterns import NM
from sparsecore.semi_structured import is_semi_structured

__all__ = ["SemiStructuredTensor", "to_sparse_semi_structured"]


def to_sparse_semi_structured(
    original_tensor: Tensor, transposed: bool = False, alg_id: int = 0
) -> SemiStructuredTensor:
    """Pack a 2:4 matrix [rows, cols] of fp32, fp16 or bf16; rows and cols may be any numbers.

    One of torch's own semi-structured tensors is packed as it is (see `sparsecore.semi_structured`).

    transposed, alg_id: accepted as torch accepts them; they mean nothing here.

    Raises ShapeError unless the tensor is a matrix, PatternError where four neighbours hold three values or more.
    """
    if original_tensor.dim() != 2:
        raise ShapeError(
            f"the tensor is {list(original_tensor.shape)}", where="original_tensor", expected="[rows, cols]"
        )
    plain = original_tensor.detach()
    return SemiStructuredTensor(
        PackedWeight.from_dense(plain if is_semi_structured(plain) else plain.contiguous(), NM(2, 4))
    )


class SemiStructuredTensor(Tensor):
    """A packed matrix in the shape of a tensor, [rows, cols] or, after `.t()`, [cols, rows]. It has no gradient.

    Attributes
    ----------
    packed: the weight. transposed: whether the tensor is its transpose.
    """

    packed: PackedWeight
    transposed: bool

    @staticmethod
    def __new__(cls, packed: PackedWeight, transposed: bool = False) -> SemiStructuredTensor:
        """Wrap `packed`; it is shared, not copied."""
        rows, cols = packed.shape
        tensor: SemiStructuredTensor = torch.Tensor._make_wrapper_subclass(
            cls, (cols, rows) if transposed else (rows, cols), dtype=packed.dtype, device=packed.device
        )
        tensor.packed, tensor.transposed = packed, transposed
        return tensor

    def __init__(self, packed: PackedWeight, transposed: bool = False) -> None:
        super().__init__()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"SemiStructuredTensor(shape={tuple(self.shape)}, dtype={self.dtype})"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return SemiStructuredTensor, (self.packed, self.transposed)

    def to_dense(self, dtype: torch.dtype | None = None, *, masked_grad: bool | None = None) -> Tensor:
        """The dense matrix, in `dtype` or the type it has."""
        dense = self.packed.to_dense()
        return (dense.t() if self.transposed else dense).to(dtype or self.dtype)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send products to the packed kernel."""
        product = _PRODUCTS.get(func)
        if product is not None:
            return product(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Views and copies; whatever needs the values is refused."""
        ours = args[0] if args and isinstance(args[0], SemiStructuredTensor) else None
        if ours is not None and func in _SAME:
            return SemiStructuredTensor(ours.packed, ours.transposed)
        if ours is not None and func in _TURNED:
            return SemiStructuredTensor(ours.packed, not ours.transposed)
        raise UnsupportedError(
            f"{func} of a packed 2:4 tensor",
            expected="F.linear, a matrix product, .t(), .detach() or .clone()",
            hint="use .to_dense()",
        )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if isinstance(weight, SemiStructuredTensor) and not weight.transposed and not isinstance(x, SemiStructuredTensor):
        return weight.packed.linear(x, bias)
    return F.linear(_dense(x), _dense(weight), bias)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    if isinstance(b, SemiStructuredTensor) and b.transposed and not isinstance(a, SemiStructuredTensor):
        return b.packed.linear(a)  # x W^T
    if (
        isinstance(a, SemiStructuredTensor)
        and not a.transposed
        and not isinstance(b, SemiStructuredTensor)
        and b.dim() == 2
    ):
        return a.packed.linear(b.t()).t()  # W x = (x^T W^T)^T
    return torch.matmul(_dense(a), _dense(b))


def _addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return beta * bias + alpha * _matmul(a, b)


def _dense(tensor: Tensor) -> Tensor:
    return tensor.to_dense() if isinstance(tensor, SemiStructuredTensor) else tensor


_PRODUCTS: dict[Any, Callable[..., Tensor]] = {
    F.linear: _linear,
    torch.matmul: _matmul,
    torch.mm: _matmul,
    Tensor.matmul: _matmul,
    Tensor.mm: _matmul,
    Tensor.__matmul__: _matmul,
    Tensor.__rmatmul__: lambda a, b: _matmul(b, a),
    torch.addmm: _addmm,
}
_SAME = (torch.ops.aten.detach.default, torch.ops.aten.clone.default, torch.ops.aten.alias.default)
_TURNED = (torch.ops.aten.t.default, torch.ops.aten.transpose.int)
