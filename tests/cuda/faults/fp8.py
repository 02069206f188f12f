"""Faults in what fp8 weights have beside int8 ones, and in expanding bytes."""

from __future__ import annotations

from faults.fault import Fault

_LAYER = ("cuda_fp8_linear_quantises", "cuda/nm_linear/int8/e4m3.cu")
_FOLDER = "cuda/nm_linear"
_TWO_FOUR = ("cuda_fp8_decode_sums_in_fp32", f"{_FOLDER}/int8/e4m3_decode.cu")
_OCTETS = ("cuda_fp8_decode_sums_in_fp32", f"{_FOLDER}/byte_octets/e4m3_decode.cu")
_EXPANDED = ("cuda_expand_writes_bytes", "cuda/expand/launch.cu")


def _fault(name: str, source: str, reached: tuple[str, str], right: str, wrong: str) -> Fault:
    tests, launch = reached
    place = f"cuda/{source}"
    return Fault(f"fp8: {name}", place, tests, right, wrong, "test_cuda_fp8.cpp", launches=(launch,), by_launch=True)


def _decode(name: str, reached: tuple[str, str], right: str, wrong: str = "") -> Fault:
    return _fault(f"decode, {name}", "nm_linear/int8/decode_products.h", reached, right, wrong)


def _number(name: str, right: str, wrong: str) -> Fault:
    test, file = "emulator_turns_every_fp8_number", "test_emulator_e4m3.cpp"
    return Fault(f"fp8: {name}", "cuda/common/element.h", test, right, wrong, file)


FAULTS = (
    _fault("the other half's metadata", "nm_linear/two_four/sm80_block.h", _LAYER,
           "multiply_sparse_e4m3(sums, a, b, metadata[kHalf]);",
           "multiply_sparse_e4m3(sums, a, b, metadata[1 - kHalf]);"),
    _fault("scales of int8", "nm_linear/int8/quantise.h", _LAYER, "kLargest = 448.0f", "kLargest = 127.0f"),
    _decode("metadata of one row for both", _TWO_FOUR, "thread_x() % 2 == 0 ? 0x6420u : 0x3175u", "0x6420u"),
    _decode("groups as bytes have them", _TWO_FOUR, "bytes ^ exchanged ^ exchanged << 4", "bytes"),
    _decode("the first two of four columns", _TWO_FOUR, "lane % 2 == 0 ? 0x5410u : 0x7632u", "0x5410u"),
    _decode("tokens of the first groups", _TWO_FOUR, "kStride + lane % 4 / 2 * 4", "kStride"),
    _decode("odd groups of the next tokens", _TWO_FOUR, "b[i][next + 2] = pairs[1]", "b[i][next ^ 3] = pairs[1]"),
    _decode("metadata of the first product", _TWO_FOUR, "multiply_sparse<F16, 1>", "multiply_sparse<F16, 0>"),
    _decode("one pair twice", _OCTETS, "[i % 2 + 2] = pairs[1]", "[i % 2 + 2] = pairs[0]"),
    _decode("one product of two", _OCTETS, "        cuda::multiply<F16>(d, a.fragments[1], tokens.b[1]);\n"),
    _decode("tokens of the other product", _OCTETS, "unpack_e4m3(tokens.b[i], ", "unpack_e4m3(tokens.b[1 - i], "),
    _number("magnitudes alone", "(pair & 0x80008000u) | ", ""),
    _number("half of a fraction", "0x3f803f80u", "0x3f003f00u"),
    _fault("bytes of the other rows", "expand/nm.h", _EXPANDED,
           "slot % 32 / 16 * 2 + row % kTileRows / 8) * 4", "slot % 32 / 16 * 2 + 1 - row % kTileRows / 8) * 4"),
    _fault("marks on kept zeros", "expand/word.h", _EXPANDED,
           "a.marks_pruned && value == sign_bit<Word>() ? Word{0} : value", "value"),
)  # fmt: skip
