"""Faults in the decode kernel on tiles, and in octets and their layout."""

from __future__ import annotations

from faults.fault import Fault

_NM = "cuda/nm_linear"
_EQUALS, _RING, _UNUSUAL = "cuda_decode_equals", "cuda_decode_goes_round", "cuda_decode_ignores"


def _fault(name: str, source: str, tests: str, right: str, wrong: str = "") -> Fault:
    return Fault(f"decode: {name}", f"{_NM}/{source}", tests, right, wrong, "test_cuda_decode.cpp")


FAULTS = (
    _fault("a chunk not waited for", "decode.h", _RING, "        wait_copies<0>();\n"),
    _fault("no barrier before a chunk is read", "decode.h", _RING, "block_barrier();  // this chunk", "// this chunk"),
    _fault("sums over activations in use", "decode.h", _RING, "block_barrier();  // the sums", "// the sums"),
    _fault("sums read before they are there", "decode.h", _EQUALS,
           "    block_barrier();\n    write_part", "    write_part"),
    _fault("one warp's sums left out", "decode.h", _EQUALS, "w < kDecodeWarps; w +=", "w < kDecodeWarps - 1; w +="),
    _fault("row guard dropped", "decode.h", _EQUALS, "if (row >= a.rows) continue;"),
    _fault("tiles of another step", "decode.h", _RING,
           "load(d, tile + Shape::kChunkTiles)", "load(d, tile + Shape::kColumnWarps)"),
    _fault("infinities times zeros", "decode.h", _UNUSUAL, "(Tiles::kMultipliesZeros) take_out", "(false) take_out"),
    _fault("infinities left out", "decode.h", _UNUSUAL, "if (shared.unusual) sum", "if (false) sum"),
    _fault("metadata of the other half", "two_four/tiles.h", _EQUALS, "multiply_sparse<T, 1>", "multiply_sparse<T, 0>"),
    _fault("rows exchanged", "octets/tiles.h", _EQUALS,
           "{upper[2 * half], lower[2 * half],", "{lower[2 * half], upper[2 * half],"),
    _fault("the second value's high half", "octets/tiles.h", _EQUALS, "second_bits - 32u", "second_bits"),
    _fault("two values at one code", "octets/layout.cpp", _EQUALS, "kept % 2 == 1", "false"),
)  # fmt: skip
