"""Faults in the kernel and the layout of unstructured weights, and in what makes weights dense."""

from __future__ import annotations

from faults.fault import Fault

_SM80 = ("cuda/bitmask_linear/bf16.cu", "cuda/bitmask_linear/f16.cu")
_DECODE, _EXPAND, _POISON = "cuda_bitmask_decode_equals", "cuda_expand_gives", "cuda_bitmask_decode_ignores"


def _decode(name: str, right: str, wrong: str = "", tests: str = _DECODE) -> Fault:
    source = "cuda/bitmask_linear/sm80_decode.h"
    return Fault(f"bitmask: {name}", source, tests, right, wrong, "test_cuda_bitmask.cpp", _SM80)


def _expand(name: str, source: str, right: str, wrong: str = "", tests: str = _EXPAND) -> Fault:
    launches = ("cuda/expand/launch.cu",)
    return Fault(f"expand: {name}", f"cuda/expand/{source}", tests, right, wrong, "test_cuda_expand.cpp", launches)


FAULTS = (
    Fault("bitmask layout: row halves exchanged", "cuda/bitmask_linear/layout.cpp", _DECODE, "lane / 4 + quad % 2 * 8",
          "lane / 4 + (1 - quad % 2) * 8", "test_cuda_bitmask.cpp"),
    Fault("bitmask: a lane's own bits counted as before it", "cuda/bitmask_linear/tile.h", _DECODE, "{word, sum - own}",
          "{word, sum}", "test_cuda_bitmask.cpp", _SM80),
    _decode("copies not waited for", "            wait_copies<kStages - 2>();\n"),
    _decode("the mask of the next tile", "const std::uint32_t word = next_word;\n            if (tile",
            "std::uint32_t& word = next_word;\n            if (tile"),
    _decode("sums over values that are still read",
            "        block_barrier();  // the sums lie", "        // the sums lie"),
    _decode("spoilt sums kept", "is_finite ? sum :", "true ? sum :", _POISON),
    _expand("codes of the wrong row half", "nm.h", "row % kTileRows / 8 * 16 +", "(1 - row % kTileRows / 8) * 16 +"),
    _expand("a block of the row before", "block.h", "found = find_block(a, row / height, at)",
            "found = find_block(a, row / height - (row >= height), at)"),
    _expand("quads of the other rows", "bitmask.h", "row + q % 2 * 8", "row + (1 - q % 2) * 8"),
    _expand("kept zeros marked as pruned", "word.h",
            "value == sign_bit<Word>() ? Word{0} : value", "value == 0 ? sign_bit<Word>() : value",
            "cuda_expand_marks"),
    _expand("marks multiplied", "repair.h", "if (bits_of(w) != kMark) sum", "sum", "cuda_repair"),
)  # fmt: skip
