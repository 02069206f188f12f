"""Faults in the int8 kernels and in their layout."""

from __future__ import annotations

from faults.fault import Fault

_FOLDER = "cuda/nm_linear/int8"
_EXACT = "cuda_int8_linear_is_exact"


def _fault(name: str, source: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"int8: {name}", f"{_FOLDER}/{source}", _EXACT, right, wrong, "test_cuda_int8.cpp")


FAULTS = (
    _fault("a stage not waited for", "sm80_gemm.h", "            wait_copies<kInt8Stages - 2>();\n"),
    _fault("sums over a stage in use", "sm80_gemm.h", "block_barrier();  // the sums", "// the sums"),
    _fault("rows of sums exchanged", "sm80_gemm.h", "r / 2 * 8 + lane / 4", "(1 - r / 2) * 8 + lane / 4"),
    _fault("largest of one warp", "quantise.h", "largest = fmaxf(largest, shared.largest[w]);", ""),
    _fault("padding of a token not zero", "quantise.h", "column < call.cols && scale == scale", "scale == scale"),
    _fault("metadata of the other row", "layout.cpp",
           "column / 16 * 2 + lower, static_cast", "column / 16 * 2 + 1 - lower, static_cast"),
)  # fmt: skip
