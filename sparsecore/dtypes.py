"""Element types of the values of weights: floats, and quantised ones, which mean value * scale of their row."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

__all__ = ["DTYPES", "QUANTISED", "dense_dtype", "is_quantised"]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Element types of dense weights; stored values may be quantised as well."""

QUANTISED: Mapping[str, torch.dtype] = MappingProxyType({"int8": torch.int8, "fp8": torch.float8_e4m3fn})
"""Types of quantised values by the names that `sparsify` takes. fp8: four bits of exponent, three of fraction."""

_QUANTISED = frozenset(QUANTISED.values())


def is_quantised(dtype: torch.dtype) -> bool:
    """Whether values of `dtype` have one scale a row, and activations are quantised to the same type at each call."""
    return dtype in _QUANTISED


def dense_dtype(dtype: torch.dtype) -> torch.dtype:
    """Element type of the dense form of a weight with values of `dtype`: float32 for quantised ones."""
    return torch.float32 if dtype in _QUANTISED else dtype
