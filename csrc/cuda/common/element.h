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

SC_DEVICE float to_float(F32 element) { return element.value; }
SC_DEVICE float to_float(F16 element) { return half_bits_to_float(element.bits); }
SC_DEVICE float to_float(BF16 element) { return bits_to_float(static_cast<std::uint32_t>(element.bits) << 16); }

SC_DEVICE void store(F32* where, float value) { where->value = value; }
SC_DEVICE void store(F16* where, float value) { where->bits = float_to_half_bits(value); }
SC_DEVICE void store(BF16* where, float value) {
    const std::uint32_t bits = float_bits(value);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    // Round to nearest even; a NaN keeps its sign and becomes quiet, so that rounding cannot turn it into an infinity.
    const std::uint32_t rounded = nan ? (bits | 0x00400000u) : bits + 0x7fffu + ((bits >> 16) & 1u);
    where->bits = static_cast<std::uint16_t>(rounded >> 16);
}

}  // namespace sparsecore::cuda
