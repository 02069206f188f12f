"""Scales beside the quantised values of a bitmask, under the names that compressed-tensors gives them."""

from __future__ import annotations

from torch import Tensor

from sparsecore.dtypes import DTYPES
from sparsecore.errors import UnsupportedError
from sparsecore.io.names import join
from sparsecore.io.tensors import LazyTensor, LazyTensors

__all__ = ["NAMES", "channel_scales"]

_SCALE, _ZERO_POINT = "weight_scale", "weight_zero_point"
NAMES = (_SCALE, _ZERO_POINT, "input_scale")
"""What such a weight has beside it. The scale of inputs is not used: they get one scale a token at each call."""


def channel_scales(tensors: LazyTensors, module: str, rows: int, where: str) -> LazyTensor | None:
    """`scales` of a stored weight, fp32 [rows], from `weight_scale`: one number for the weight or one an output.

    None where the file has none. Raises UnsupportedError for scales of groups of inputs and for a zero point.
    """
    name = join(module, _SCALE)
    if name not in tensors:
        return None
    scale = tensors.entry(name)
    if scale.shape not in ((), (1,), (1, 1), (rows,), (rows, 1)) or scale.dtype not in DTYPES:
        raise UnsupportedError(
            f"the scales of a weight of {rows} outputs are {scale.dtype} {list(scale.shape)}",
            where=f"{where}: {name}",
            expected="one float for the weight, or one for each output",
        )
    zero = join(module, _ZERO_POINT)
    if zero in tensors and bool(tensors[zero].float().any()):
        raise UnsupportedError("a zero point that is not 0", where=f"{where}: {zero}", expected="symmetric values")

    def read() -> Tensor:
        return scale.read().float().reshape(-1).expand(rows).contiguous()

    return LazyTensor((rows,), DTYPES[0], read, scale.place, derived=True)
