"""Faults to plant in copies of the CUDA kernels: one module a family, all of them in FAULTS."""

from __future__ import annotations

from faults import bitmask, block, decode, decode_attention, fp8, gathered, int8, prefill, topk, two_four
from faults.fault import Fault

__all__ = ["FAULTS", "Fault"]

FAULTS = (
    *bitmask.FAULTS,
    *block.FAULTS,
    *two_four.FAULTS,
    *decode.FAULTS,
    *decode_attention.FAULTS,
    *fp8.FAULTS,
    *gathered.FAULTS,
    *int8.FAULTS,
    *prefill.FAULTS,
    *topk.FAULTS,
)
