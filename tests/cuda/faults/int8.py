"""Faults in the int8 kernels and in their layout; those of the Hopper kernel are in fp8 as well."""

from __future__ import annotations

from faults.fault import Fault

_FOLDER = "cuda/nm_linear/int8"
_EXACT, _DECODED = "cuda_int8_linear_is_exact", "cuda_int8_decode_is_exact"


def _fault(name: str, source: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"int8: {name}", f"{_FOLDER}/{source}", _EXACT, right, wrong, "test_cuda_int8.cpp")


def _hopper(name: str, right: str, wrong: str = "") -> Fault:
    file = "test_cuda_bytes_sm90.cpp"
    return Fault(f"bytes on sm90: {name}", f"{_FOLDER}/sm90_gemm.h", "cuda_hopper_multiplies_bytes", right, wrong, file)


def _decode(name: str, source: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"int8 decode: {name}", f"{_FOLDER}/{source}", _DECODED, right, wrong, "test_cuda_int8_decode.cpp")


def _octets(name: str, source: str, right: str, wrong: str = "") -> Fault:
    return Fault(
        f"int8 octets: {name}", f"cuda/nm_linear/byte_octets/{source}", _DECODED, right, wrong,
        "test_cuda_int8_decode.cpp",
    )  # fmt: skip


FAULTS = (
    _fault("a stage not waited for", "sm80_gemm.h", "            wait_copies<kInt8Stages - 2>();\n"),
    _fault("sums over a stage in use", "sm80_gemm.h", "block_barrier();  // the sums", "// the sums"),
    _fault("largest of one warp", "quantise.h", "largest = fmaxf(largest, shared.largest[w]);", ""),
    _fault("columns beyond the last", "quantise.h", "column + i < a.cols ? to_float", "true ? to_float"),
    _fault("columns of a unit left out", "quantise.h", "column + kUnit > a.cols", "column >= a.cols"),
    _fault("metadata of the other row", "layout.cpp",
           "column / 16 * 2 + lower, static_cast", "column / 16 * 2 + 1 - lower, static_cast"),
    _hopper("a block ends before its cluster", "cluster_barrier();  // others", "// others"),
    _hopper("metadata of the other half", "weights.metadata[half]", "weights.metadata[1 - half]"),
    _hopper("wrong step within a tile", "half * (kColumns / 2)", "half * (kColumns / 4)"),
    _hopper("the scale of another token", "shared.x_scales[t]", "shared.x_scales[t ^ 1]"),
    _hopper("the bias of another row", "(row + i) * call.bias_stride", "row * call.bias_stride"),
    Fault("results: rows beyond the last", "cuda/common/results.h", "cuda_hopper_multiplies_bytes",
          "if (in_units && count >= 4)", "if (in_units)", "test_cuda_bytes_sm90.cpp"),
    _hopper("tokens beyond the last", "t < kTokens && first_token + t < call.tokens", "t < kTokens"),
    _decode("metadata of the other half", "tiles.h", "tiles[i].metadata[half]", "tiles[i].metadata[1 - half]"),
    _decode("activations of the first half", "tiles.h", "kStride + half * (kColumns / 2)", "kStride"),
    _decode("one half loaded twice", "weight_tiles.h", "second = first + kWarpSize", "second = first"),
    _decode("columns counted as bytes", "decode_args.h", "a.q_stride / 2", "a.q_stride"),
    _decode("results of another type", "decode_args.h", "store_scaled<F16>", "store_scaled<BF16>"),
    _decode("the scale of the first row", "results.h", "a.scales[row]", "a.scales[0]"),
    _decode("a bias of the other type", "results.h", "a.bias_is_float ?", "!a.bias_is_float ?"),
    _octets("halves of octets exchanged", "tiles.h",
            "fragment[lower + 2] = choose((first | second) >> 16)", "fragment[lower + 2] = choose(first | second)"),
    _octets("one value of two", "tiles.h", "[lower] = choose(first | second)", "[lower] = choose(first)"),
    _octets("rows exchanged", "tiles.h", "fragment[lower] = choose(first);", "fragment[1 - lower] = choose(first);"),
    _octets("third bits of another value", "tiles.h", "tile.high_codes << 15", "tile.high_codes << 16"),
    _octets("codes of another word", "tiles.h", "moved(tile.codes, to - 2 * word)", "moved(tile.codes, to - word)"),
    _octets("places of the other column", "tiles.h", "kPlacesOfBit = 0x55u", "kPlacesOfBit = 0u"),
    _octets("metadata of the other pair", "tiles.h", "third_bits(tile, pair, 0)", "third_bits(tile, pair ^ 1, 0)"),
    _octets("activations of another step", "tiles.h", "kStride + pair * 32", "kStride"),
    _octets("two values at one code", "layout.cpp", "kept % 2 == 1", "false"),
)  # fmt: skip
