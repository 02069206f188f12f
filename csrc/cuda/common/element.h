// Element types as the kernels see them: raw bits in memory, fp32 in registers. kBrain: the exponent of fp32 (bf16).
#pragma once

#include "cuda/ptx/thread.h"

namespace sparsecore::cuda {

struct F32 {
    float value;
};
struct F16 {
    static constexpr bool kBrain = false;
    std::uint16_t bits;
};
struct BF16 {
    static constexpr bool kBrain = true;
    std::uint16_t bits;
};

struct I8 {
    std::int8_t value;
};
// fp8 with 4 bits of exponent (bias 7) and 3 of fraction: no infinities, 0x7f and 0xff are NaN, the largest number is 448.
struct E4M3 {
    std::uint8_t bits;
};

SC_DEVICE float to_float(F32 element) { return element.value; }
SC_DEVICE float to_float(F16 element) { return half_bits_to_float(element.bits); }
SC_DEVICE float to_float(BF16 element) { return bits_to_float(static_cast<std::uint32_t>(element.bits) << 16); }

// By hand, as the instruction that converts bytes runs at an eighth of the rate: u + 2^23 has u in its low bits.
SC_DEVICE float to_float(I8 element) {
    return bits_to_float(0x4b000000u | (static_cast<std::uint8_t>(element.value) ^ 0x80u)) - 8388736.0f;
}

SC_DEVICE float to_float(E4M3 element) {
    const std::uint32_t magnitude = element.bits & 0x7fu;
    if (magnitude == 0x7fu) return bits_to_float(0x7fc00000u);
    // The bits in the places of fp32's, whose bias is 120 more; so subnormal numbers come right as well.
    const float scaled = bits_to_float((element.bits & 0x80u) << 24 | magnitude << 20);
    return scaled * bits_to_float((127u + 120u) << 23);
}

SC_DEVICE void store(F32* where, float value) { where->value = value; }
SC_DEVICE void store(F16* where, float value) { where->bits = float_to_half_bits(value); }
SC_DEVICE void store(BF16* where, float value) {
    const std::uint32_t bits = float_bits(value);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    // Round to nearest even; a NaN keeps its sign and becomes quiet, so that rounding cannot turn it into an infinity.
    const std::uint32_t rounded = nan ? (bits | 0x00400000u) : bits + 0x7fffu + ((bits >> 16) & 1u);
    where->bits = static_cast<std::uint16_t>(rounded >> 16);
}

// Two E4M3 numbers in the upper bytes of half words, over zeros: their bits in the places of f16's, whose bias is 8 more. So these are the
// numbers times 2^-8, subnormal ones too. Not for NaN.
SC_DEVICE std::uint32_t e4m3_in_places_of_halves(std::uint32_t pair) { return (pair & 0x80008000u) | (pair >> 1 & 0x3f803f80u); }

// Rounds to nearest even; beyond 448 it is 448.
SC_DEVICE void store(E4M3* where, float value) {
    constexpr std::uint32_t kLargest = 0x43e00000u, kNormal = 0x3c800000u;  // 448 and 2^-6 as fp32
    const std::uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffffu, sign = bits >> 24 & 0x80u;
    std::uint32_t rounded;
    if (magnitude > 0x7f800000u) {
        rounded = 0x7f;
    } else if (magnitude >= kLargest) {
        rounded = 0x7e;
    } else if (magnitude < kNormal) {
        rounded = float_bits(bits_to_float(magnitude) + 16384.0f) & 0xfu;  // a number whose last bit is 2^-9
    } else {
        rounded = ((magnitude + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20) - (120u << 3);
    }
    where->bits = static_cast<std::uint8_t>(sign | rounded);
}

}  // namespace sparsecore::cuda
