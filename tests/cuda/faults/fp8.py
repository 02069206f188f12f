"""Faults in what fp8 weights have beside int8 ones, and in expanding bytes."""

from __future__ import annotations

from faults.fault import Fault

_LAYER = ("cuda_fp8_linear_quantises", "cuda/nm_linear/int8/e4m3.cu")
_EXPANDED = ("cuda_expand_writes_bytes", "cuda/expand/launch.cu")


def _fault(name: str, source: str, reached: tuple[str, str], right: str, wrong: str) -> Fault:
    tests, launch = reached
    place = f"cuda/{source}"
    return Fault(f"fp8: {name}", place, tests, right, wrong, "test_cuda_fp8.cpp", launches=(launch,), by_launch=True)


FAULTS = (
    _fault("the other half's metadata", "nm_linear/two_four/sm80_block.h", _LAYER,
           "multiply_sparse_e4m3(sums, a, b, metadata[kHalf]);",
           "multiply_sparse_e4m3(sums, a, b, metadata[1 - kHalf]);"),
    _fault("scales of int8", "nm_linear/int8/quantise.h", _LAYER, "kLargest = 448.0f", "kLargest = 127.0f"),
    _fault("bytes of the other rows", "expand/nm.h", _EXPANDED,
           "slot % 32 / 16 * 2 + row % kTileRows / 8) * 4", "slot % 32 / 16 * 2 + 1 - row % kTileRows / 8) * 4"),
    _fault("marks on kept zeros", "expand/word.h", _EXPANDED,
           "a.marks_pruned && value == sign_bit<Word>() ? Word{0} : value", "value"),
)  # fmt: skip
