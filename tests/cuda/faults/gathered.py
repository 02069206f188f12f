"""Faults in the kernels on gathered weights and in their layout."""

from __future__ import annotations

from faults.fault import Fault

_FOLDER = "cuda/nm_linear/gathered"
_GEMM, _DECODE = "cuda_gathered_gemm", "cuda_gathered_decode"


def _fault(name: str, source: str, tests: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"gathered: {name}", f"{_FOLDER}/{source}", tests, right, wrong, "test_cuda_gathered.cpp")


def _hopper(name: str, right: str, wrong: str = "", source: str = "sm90_gemm.h") -> Fault:
    launches = tuple(f"{_FOLDER}/{file}.cu" for file in ("transpose", "sm90_bf16", "sm90_f16"))
    place, tests, file = f"{_FOLDER}/{source}", "cuda_gathered_hopper", "test_cuda_gathered.cpp"
    return Fault(f"gathered, sm90: {name}", place, tests, right, wrong, file, launches, by_launch=True)


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
    _hopper("columns not waited for", "        wait_copies<kUnderWay>();\n"),
    _hopper("columns not shown to the async proxy", "        fence_async_proxy();\n"),
    _hopper("a stage filled before it is free", "if (round > 0) wait_phase", "if (false) wait_phase"),
    _hopper("too few arrivals fill a tile", "(shared, kGatheredProducerWarps)", "(shared, kGatheredProducerWarps - 1)"),
    _hopper("rows not in the swizzle of the second half", "group % 2 * 4 + slot, lane % 8", "slot, lane % 8"),
    _hopper("columns beyond x not zero", "const bool inside = column < left;", "const bool inside = left > 0;"),
    _hopper("the left half twice", "x[stage][0][kTileColumns / 2]", "x[stage][0][0]"),
    _hopper("columns of the tile before", "chosen = load_chosen(a, tile + 1)", "chosen = load_chosen(a, tile)"),
    _hopper("tokens of a lane in another order", "lane / 8 * 2 + lane % 2", "lane / 8 + lane % 2 * 4", "transpose.h"),
    _hopper("a tile transposed before it is there", "        wait_copies<0>();\n", "", "transpose.h"),
    _hopper("the second part computed from the first", "first * a.x_token_stride", "0 * a.x_token_stride",
            "sm90_launch.h"),
)  # fmt: skip
