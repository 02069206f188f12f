"""Faults in the kernels on gathered weights and in their layout."""

from __future__ import annotations

from faults.fault import Fault

_FOLDER = "cuda/nm_linear/gathered"
_GEMM, _DECODE = "cuda_gathered_gemm", "cuda_gathered_decode"


def _fault(name: str, source: str, tests: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"gathered: {name}", f"{_FOLDER}/{source}", tests, right, wrong, "test_cuda_gathered.cpp")


FAULTS = (
    _fault("no barrier before a tile is read", "sm80_gemm.h", _GEMM, "block_barrier();  // this tile", "// this tile"),
    _fault("weights not waited for", "sm80_gemm.h", _GEMM, "            wait_copies<kGatherStages - 2>();\n"),
    _fault("picked over a tile in use", "sm80_gemm.h", _GEMM,
           "ahead.pick(part, shared.x[tile % 2]", "ahead.pick(part, shared.x[0]"),
    _fault("columns of another block of rows", "pick.h", _GEMM, "a.chosen[block * groups + group]", "a.chosen[group]"),
    _fault("the other pair of words", "pick.h", _DECODE,
           "from.word[2], from.word[3], halves", "from.word[0], from.word[1], halves"),
    _fault("the upper unit of a group of 16", "pick.h", _DECODE,
           "of_words(first >> 3, second >> 3)", "of_words(second >> 3, first >> 3)"),
    _fault("places not those of the chosen columns", "layout.cpp", _GEMM,
           "place_of(chosen[i / 2], from[i])", "from[i] & 3"),
)  # fmt: skip
