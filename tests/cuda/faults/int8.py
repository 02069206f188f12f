"""Faults in the int8 kernels and in their layout; those of the Hopper kernel are in fp8 as well."""

from __future__ import annotations

from faults.fault import Fault

_FOLDER = "cuda/nm_linear/int8"
_EXACT = "cuda_int8_linear_is_exact"


def _fault(name: str, source: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"int8: {name}", f"{_FOLDER}/{source}", _EXACT, right, wrong, "test_cuda_int8.cpp")


def _hopper(name: str, right: str, wrong: str = "") -> Fault:
    file = "test_cuda_bytes_sm90.cpp"
    return Fault(f"bytes on sm90: {name}", f"{_FOLDER}/sm90_gemm.h", "cuda_hopper_multiplies_bytes", right, wrong, file)


FAULTS = (
    _fault("a stage not waited for", "sm80_gemm.h", "            wait_copies<kInt8Stages - 2>();\n"),
    _fault("sums over a stage in use", "sm80_gemm.h", "block_barrier();  // the sums", "// the sums"),
    _fault("rows of sums exchanged", "sm80_gemm.h", "r / 2 * 8 + lane / 4", "(1 - r / 2) * 8 + lane / 4"),
    _fault("largest of one warp", "quantise.h", "largest = fmaxf(largest, shared.largest[w]);", ""),
    _fault("padding of a token not zero", "quantise.h", "column < call.cols && scale == scale", "scale == scale"),
    _fault("metadata of the other row", "layout.cpp",
           "column / 16 * 2 + lower, static_cast", "column / 16 * 2 + 1 - lower, static_cast"),
    _hopper("a stage filled before it is free", "wait_phase(&shared.empty", "if (false) wait_phase(&shared.empty"),
    _hopper("a stage freed in one block alone", "&shared.empty[before], lane", "&shared.empty[before], cluster_rank()"),
    _hopper("arrivals of one block alone", "ConsumerWarps * static_cast<int>(cluster_size())", "ConsumerWarps"),
    _hopper("a tile not waited for", "wait_phase(&shared.full", "if (false) wait_phase(&shared.full"),
    _hopper("wrong number of announced bytes", "sizeof shared.x[0])", "sizeof shared.x[0] / 2)"),
    _hopper("the same tokens for every share", "* kTokens + first;", "* kTokens;"),
    _hopper("a block ends before its cluster", "cluster_barrier();  // others", "// others"),
    _hopper("products not waited for", "    wait_products<1>(sums);\n"),
    _hopper("metadata of the other half", "weights.metadata[half]", "weights.metadata[1 - half]"),
    _hopper("wrong step within a tile", "half * (kSm90ByteColumns / 2)", "half * (kSm90ByteColumns / 4)"),
    _hopper("accumulator of another row", "i / 2 % 2 * 8", "(1 - i / 2 % 2) * 8"),
    _hopper("sums over a ring in use", "named_barrier(kConsumerBarrier, kSm90Consumers);  // the ring", "// the ring"),
    _hopper("weights replaced while they are multiplied", "% kSm90WeightTiles] = load",
            "% kSm90WeightTiles] = weights[i] = load"),
)  # fmt: skip
