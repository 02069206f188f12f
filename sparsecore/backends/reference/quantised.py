"""Symmetric quantisation in pure torch: weights with one scale a row, activations with one scale a token.

    scale = amax / largest in fp32 (1 where that is 0),    q = x / scale rounded half to even, in [-largest, largest]

largest: 127 for int8 (Jacob et al., CVPR 2018, with a zero point of 0), 448 for fp8 e4m3 (Micikevicius et al.,
arXiv:2209.05433). A token with an infinity or a NaN has the scale NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sparsecore.errors import InvalidValueError
from sparsecore.patterns import NM, Block, Pattern

__all__ = ["dequantise", "linear", "quantise", "quantise_tokens", "scales_of"]

_LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}


def quantise_tokens(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (q of the quantised type `dtype`, scales fp32 [tokens]) of x [tokens, features]."""
    wide = x.float()
    amax = wide.abs().amax(1) if x.shape[1] else wide.new_zeros(x.shape[0])
    scales = torch.where(amax.isfinite(), scales_of(amax, _LARGEST[dtype]), math.nan)
    return _rounded(torch.where(scales.isnan()[:, None], 0, wide / scales[:, None]), dtype), scales


def linear(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    bias: Tensor | None,
    activation: Callable[[Tensor], Tensor],
) -> Tensor:
    """activation(sum * (x scale * w scale) + bias) in x.dtype: exact sums, then fp32 and one rounding.

    x [tokens, in_features], weight int8 or fp8 [out_features, in_features] with zeros where it is pruned, scales fp32
    [out_features].
    """
    q, x_scales = quantise_tokens(x, weight.dtype)
    # float64 holds every sum exactly: of int8 32 bits; of fp8 multiples of 2^-18 below 2^35.
    sums = (q.double() @ weight.double().t()).float()
    total = sums * (x_scales[:, None] * scales)
    if bias is not None:
        total = total + bias.float()
    return activation(total).to(x.dtype)


def quantise(
    pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Tensors of a stored float weight with values of the quantised type `dtype` and their `scales`.

    Raises InvalidValueError where a value is not finite.
    """
    name = _values_name(pattern)
    values = tensors[name].float()
    if not values.is_meta and not bool(values.isfinite().all()):
        raise InvalidValueError("an infinite or NaN weight has no scale", where=name, expected="finite weights")
    rows = _rows(pattern, shape, tensors).expand(values.shape)
    amax = values.new_zeros(shape[0]).scatter_reduce(0, rows.reshape(-1), values.abs().reshape(-1), "amax")
    scales = scales_of(amax, _LARGEST[dtype])
    return {**tensors, name: _rounded(values / scales[rows], dtype), "scales": scales}


def dequantise(
    pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Tensors of a stored quantised weight with the values q * scale as `dtype`, rounded once."""
    name = _values_name(pattern)
    values = tensors[name].float() * tensors["scales"][_rows(pattern, shape, tensors)]
    return {**{key: tensor for key, tensor in tensors.items() if key != "scales"}, name: values.to(dtype)}


def scales_of(amax: Tensor, largest: float) -> Tensor:
    """Scales by which values up to `amax`, fp32, become numbers up to `largest`."""
    scales = amax / amax.new_full((), largest)  # torch multiplies by the inverse of a number on a GPU
    return torch.where(scales == 0, 1, scales)


def _rounded(quotients: Tensor, dtype: torch.dtype) -> Tensor:
    """Quotients to the nearest value of `dtype`, half to even; those beyond the largest become it."""
    inside = quotients.clamp(-_LARGEST[dtype], _LARGEST[dtype])
    return (inside if dtype.is_floating_point else inside.round()).to(dtype)


def _values_name(pattern: Pattern) -> str:
    return "blocks" if isinstance(pattern, Block) else "compressed"


def _rows(pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
    """The row of every stored value, int64, of a shape that broadcasts with the values.

    Padding below the last row counts as the last row: it is zero.
    """
    values = tensors[_values_name(pattern)]
    rows = torch.arange(shape[0], device=values.device)
    if isinstance(pattern, NM):
        return rows[:, None]
    if not isinstance(pattern, Block):
        starts = tensors["row_offsets"]
        counts = torch.diff(starts, append=starts.new_full((1,), values.shape[0]))
        return rows.repeat_interleave(counts, output_size=values.shape[0])
    offsets = tensors["block_row_offsets"]
    block_rows = torch.arange(len(offsets) - 1, device=values.device)
    block_rows = block_rows.repeat_interleave(offsets.diff(), output_size=values.shape[0])
    inside = torch.arange(pattern.rows, device=values.device)
    return (block_rows[:, None] * pattern.rows + inside).clamp(max=shape[0] - 1)[:, :, None]
