"""The operators on arrays of CuPy, Numba, NumPy and others, without a copy, by DLPack or __cuda_array_interface__.

    packed = sc.PackedWeight.from_dense(weight, "2:4").to("cuda")
    y = sc.arrays.linear(x, packed, stream=my_stream)          # x a cupy.ndarray: so is y

Arrays are only read, so a read-only one is as good as any. Results have the kind of the first array where its library
takes DLPack, and are torch tensors otherwise (which have both protocols). All arrays and the weight are on one device.

`stream` is the CUDA stream that the work is queued on, by default torch's current one: an object that has
`__cuda_stream__`, `cuda_stream`, `handle` or `ptr`, or a number as DLPack and __cuda_array_interface__ count: a handle,
1 for the legacy default stream, 2 for the one of each thread. The producers of the arrays are asked to be ready on it,
it waits for torch's current stream, where tensors and the weight are written, and the results are in its order; nothing
waits on the host. The memory of tensors that are dropped meanwhile is not used again before it is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sparsecore import ops
from sparsecore.arrays.exchange import as_tensor, device_of, is_array, like
from sparsecore.arrays.streams import keep_for, on_stream
from sparsecore.errors import UnsupportedError
from sparsecore.ops import BlockMask, Decoded, Scored
from sparsecore.packed import PackedWeight

__all__ = ["as_tensor", "attention", "block_sparse_attention", "decode_attention", "linear", "topk"]


def linear(
    x: Any, weight: PackedWeight, bias: Any | None = None, activation: str = "none", *, stream: Any = None
) -> Any:
    """activation(x W^T + bias) for x [..., in_features] in the weight's dtype; result [..., out_features].

    bias [out_features]. Raises as `PackedWeight.linear` and `as_tensor` do.
    """
    arguments = {"x": x, "bias": bias, "activation": activation}
    return _run(weight.linear, "x", arguments, stream, weight.resident)[0]


def topk(x: Any, k: int, *, stream: Any = None) -> tuple[Any, Any]:
    """The k largest of each row of x [..., n] as (values, int64 indices), both [..., k]; see `ops.topk_select`."""
    values, indices = _run(ops.topk_select, "x", {"x": x, "k": k}, stream)
    return values, indices


def attention(q: Any, k: Any, v: Any, *, stream: Any = None, **options: Any) -> Scored:
    """Attention of q [B, Hq, Lq, D] over k [B, Hkv, Lk, D] and v [B, Hkv, Lk, Dv]; see `ops.scored_attention`.

    options: its other arguments; those that are tensors there (mask, counted, ...) may be arrays.
    """
    return Scored(*_run(ops.scored_attention, "q", {"q": q, "k": k, "v": v, **options}, stream))


def block_sparse_attention(q: Any, k: Any, v: Any, mask: BlockMask, *, stream: Any = None, **options: Any) -> Scored:
    """`attention` where only blocks that are paired in `mask`, on the arrays' device, see each other.

    See `ops.block_sparse_attention`; options: its other arguments.
    """
    arguments = {"q": q, "k": k, "v": v, "mask": mask, **options}
    return Scored(*_run(ops.block_sparse_attention, "q", arguments, stream))


def decode_attention(
    q: Any,
    keys: Sequence[Any],
    values: Sequence[Any],
    starts: Any,
    lengths: Any,
    width: int,
    *,
    stream: Any = None,
    **options: Any,
) -> Decoded:
    """Attention of one new token a sequence over a store; see `ops.decode_attention`, whose arguments these are."""
    arguments = {"q": q, "keys": keys, "values": values, "starts": starts, "lengths": lengths, "width": width}
    return Decoded(*_run(ops.decode_attention, "q", {**arguments, **options}, stream))


def _run(
    operator: Callable[..., Any], first: str, arguments: Mapping[str, Any], stream: Any, *held: Tensor
) -> tuple[Any, ...]:
    """Call `operator` with tensors for the arrays among `arguments`; results as arrays of the kind of the `first`.

    held: tensors that it reads besides.
    """
    array = arguments[first]
    with on_stream(stream, device_of(array, first)) as chosen:
        found: list[Tensor] = []
        given = {name: _tensors(value, name, found) for name, value in arguments.items()}
        devices = {tensor.device for tensor in found}
        if len(devices) > 1:
            raise UnsupportedError(
                f"the arrays are on {', '.join(sorted(map(str, devices)))}",
                where=operator.__name__,
                expected="all on one device",
                hint="copy them to the device of the first",
            )
        keep_for(chosen, (*found, *held))
        results = operator(**given)
        return tuple(like(array, part) for part in (results if isinstance(results, tuple) else (results,)))


def _tensors(value: Any, name: str, found: list[Tensor]) -> Any:
    """`value` with tensors in place of arrays, which are added to `found`."""
    if isinstance(value, BlockMask):
        found += (value.offsets, value.indices)
        return value
    if isinstance(value, list | tuple) and any(map(is_array, value)):
        return tuple(_tensors(part, name, found) for part in value)
    if not is_array(value):
        return value
    tensor = as_tensor(value, name)
    found.append(tensor)
    return tensor
