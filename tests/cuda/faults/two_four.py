"""Faults in the 2:4 kernels and their layout."""

from __future__ import annotations

from faults.fault import Fault

TWO_FOUR = "cuda/nm_linear/two_four"
_GEMM, _HOPPER = "cuda_two_four_gemm", "cuda_two_four_hopper"
_LAYOUT = f"{TWO_FOUR}/layout.cpp"


def _gemm(name: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"sm80: {name}", f"{TWO_FOUR}/sm80_gemm.h", _GEMM, right, wrong)


def _block(name: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"sm80: {name}", f"{TWO_FOUR}/sm80_block.h", _GEMM, right, wrong)


def _results(name: str, right: str, wrong: str) -> Fault:
    return Fault(f"results: {name}", "cuda/common/results.h", _GEMM, right, wrong)


def _hopper(name: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"sm90: {name}", f"{TWO_FOUR}/sm90_gemm.h", _HOPPER, right, wrong)


def _ring(name: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"sm90: {name}", f"{TWO_FOUR}/sm90_block.h", _HOPPER, right, wrong)


FAULTS = (
    Fault("layout: column halves exchanged", _LAYOUT, _GEMM, "half * 2 + column / 8", "half * 2 + 1 - column / 8"),
    Fault("layout: row halves exchanged", _LAYOUT, _GEMM, "lower * 16", "(1 - lower) * 16"),
    _gemm("copies not waited for", "wait_copies<kGemmStages - 2>();"),
    _gemm("no barrier before a stage is read", "block_barrier();  // this stage", "// this stage"),
    _gemm("a stage refilled while it is read", "fetch(tile + kGemmStages - 1)", "fetch(tile + kGemmStages)"),
    Fault("sm80: token guard dropped", "cuda/nm_linear/activations.h", _GEMM,
          "token < a.tokens ? a.cols - column : 0", "a.cols - column"),
    _block("row tiles not clamped", "row_tile < a.row_tiles ? row_tile : a.row_tiles - 1", "row_tile"),
    _block("rows of sums exchanged", "r / 2 * 8 + lane / 4", "(1 - r / 2) * 8 + lane / 4"),
    _block("a lane misses a collective", "        load_matrix_x4(", "        if (lane != 31) load_matrix_x4("),
    _gemm("staged sums not waited for", "block_barrier();\n        write_results", "write_results"),
    _ring("a stage filled before it is free", "wait_phase_of_cluster(&", "if (false) wait_phase_of_cluster(&"),
    _ring("a wait that does not see other blocks", "wait_phase_of_cluster(&", "wait_phase(&"),
    _ring("wrong parity of a free stage", "place.parity ^ 1)", "place.parity)"),
    _ring("a stage freed in one block alone", "&shared.empty[before], lane", "&shared.empty[before], cluster_rank()"),
    _ring("arrivals of one block alone", "ConsumerWarps * static_cast<int>(cluster_size())", "ConsumerWarps"),
    _ring("a tile not waited for", "wait_phase(&shared.full", "if (false) wait_phase(&shared.full"),
    _ring("wrong number of announced bytes", "sizeof shared.x[0])", "sizeof shared.x[0] / 2)"),
    _ring("the same tokens for every share", "Shared::kTokens + first;", "Shared::kTokens;"),
    Fault("sm90: tokens that overlap in a tensor map", "cuda/common/linear_args.h", "cuda_two_four_on_hopper",
          "a.x_in_units && a.x_token_stride >= a.cols", "a.x_in_units",
          launches=("cuda/nm_linear/launch.cu",), by_launch=True),
    _hopper("a block ends before its cluster", "cluster_barrier();  // others", "// others"),
    _hopper("wrong step within a tile", "&x[stage][0][32]", "&x[stage][0][16]"),
    _ring("products not waited for", "    wait_products<1>(sums);\n"),
    _hopper("metadata of the other half", "<T, kTokens, 1>(sums, weights", "<T, kTokens, 0>(sums, weights"),
    Fault("sm90: accumulator of another row", "cuda/common/results.h", _HOPPER, "i / 2 % 2 * 8", "(1 - i / 2 % 2) * 8"),
    _ring("sums over a ring in use", "named_barrier(kConsumerBarrier, kSm90Consumers);  // the ring", "// the ring"),
    _results("tokens beyond the last", "t < kTokens && first_token + t < a.tokens", "t < kTokens"),
    _results("the bias of another row", "load_bias<T>(a, row + i)", "load_bias<T>(a, row)"),
    _ring("weights replaced while they are multiplied", "% kSm90WeightTiles] = load",
          "% kSm90WeightTiles] = weights[i] = load"),
)  # fmt: skip
