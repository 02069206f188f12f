"""The operators on arrays of CuPy, Numba, NumPy and others, without a copy, by DLPack or __cuda_array_interface__.

    packed = sc.PackedWeight.from_dense(weight, "2:4").to("cuda")
    y = sc.arrays.linear(x, packed, stream=my_stream)          # x a cupy.ndarray: so is y

Arrays are only read, so a read-only one is as good as any. Results have the kind of the first array where its library
takes DLPack, and are torch tensors otherwise (which have both protocols). All arrays and the weight are on one device.

`stream` is the CUDA stream that the work is queued on, by default torch's current one: an object that has
`__cuda_stream__`, `cuda_stream`, `handle` or `ptr`, or a number as DLPack and __cuda_array_interface__ count: a handle,
1 for the legacy default stream, 2 for the one of each thread. The producers of the arrays are asked to be ready on it,
and the results are in its order; nothing waits on the host.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sparsecore import ops
from sparsecore.arrays.exchange import as_tensor, device_of, like
from sparsecore.arrays.streams import on_stream
from sparsecore.errors import UnsupportedError
from sparsecore.ops import Scored
from sparsecore.packed import PackedWeight

__all__ = ["as_tensor", "attention", "linear", "topk"]


def linear(
    x: Any, weight: PackedWeight, bias: Any | None = None, activation: str = "none", *, stream: Any = None
) -> Any:
    """activation(x W^T + bias) for x [..., in_features] in the weight's dtype; result [..., out_features].

    bias [out_features]. Raises as `PackedWeight.linear` and `as_tensor` do.
    """
    with on_stream(stream, device_of(x, "x")):
        out = weight.linear(as_tensor(x, "x"), _optional(bias, "bias"), activation)
        return like(x, out)


def topk(x: Any, k: int, *, stream: Any = None) -> tuple[Any, Any]:
    """The k largest of each row of x [..., n] as (values, int64 indices), both [..., k]; see `ops.topk_select`."""
    with on_stream(stream, device_of(x, "x")):
        values, indices = ops.topk_select(as_tensor(x, "x"), k)
        return like(x, values), like(x, indices)


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    mask: Any | None = None,
    causal: bool = False,
    scale: float | None = None,
    value_keep: float = 1.0,
    token_scores: bool = True,
    head_scores: bool = True,
    stream: Any = None,
) -> Scored:
    """Attention of q [B, Hq, Lq, D] over k [B, Hkv, Lk, D] and v [B, Hkv, Lk, Dv]; see `ops.scored_attention`.

    mask: bool, True = attend, [B or 1, Hq or 1, Lq or 1, Lk].
    """
    with on_stream(stream, device_of(q, "q")):
        tensors = as_tensor(q, "q"), as_tensor(k, "k"), as_tensor(v, "v")
        if len({tensor.device for tensor in tensors}) > 1:
            raise UnsupportedError(
                f"q, k, v are on {', '.join(str(tensor.device) for tensor in tensors)}", expected="one device"
            )
        found = ops.scored_attention(
            *tensors,
            mask=_optional(mask, "mask"),
            causal=causal,
            scale=scale,
            value_keep=value_keep,
            token_scores=token_scores,
            head_scores=head_scores,
        )
        return Scored(*(like(q, part) for part in found))


def _optional(array: Any | None, name: str) -> Tensor | None:
    return None if array is None else as_tensor(array, name)
