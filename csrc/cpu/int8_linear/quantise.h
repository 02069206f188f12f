// Symmetric quantisation of activations, one scale a token: scale = amax / 127, q = x / scale rounded half to even, in
// [-127, 127]; with fp8 weights 448 in place of 127, and q rounded to e4m3. A scale of 0 (a token of zeros, or the quotient
// underflows) is 1. A token with an infinity or a NaN has the scale NaN and zeros, so that each of its outputs is NaN. Functions are static: kernel files of every instruction set
// include this.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

constexpr uint32_t kInfinityBits = 0x7f800000u;

// `amax_bits`: the largest of the bits of |x|, which order as the numbers do, with infinity and NaN above all.
static inline float quantised_scale(uint32_t amax_bits, core::DType type) {
    if (amax_bits >= kInfinityBits) return core::bits_float(kInfinityBits | 0x400000u);
    const float scale = core::bits_float(amax_bits) / core::largest_value(type);
    return scale == 0.0f ? 1.0f : scale;
}

static inline float int8_scale(uint32_t amax_bits) { return quantised_scale(amax_bits, core::DType::I8); }

static inline int8_t int8_value(float x, float scale) {
    if (scale != scale) return 0;
    float quotient = x / scale;
    quotient = quotient > 127.0f ? 127.0f : quotient < -127.0f ? -127.0f : quotient;
    // Adding 1.5 * 2^23 leaves no bits behind the point: the addition rounds to even.
    return static_cast<int8_t>(quotient + 12582912.0f - 12582912.0f);
}

static inline uint8_t fp8_value(float x, float scale) { return scale != scale ? uint8_t{0} : core::f32_to_e4m3(x / scale); }

static inline float token_scale(const LinearCall& call, int64_t token, core::DType type = core::DType::I8) {
    uint32_t largest = 0;
    for (int64_t c = 0; c < call.cols; ++c) {
        const uint32_t bits = core::float_bits(load_x(call, token, c)) & 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return quantised_scale(largest, type);
}

// The one fp32 step after an exact sum: both scales, then bias, activation and the one rounding.
static inline void store_scaled_output(const LinearCall& call, int64_t token, int64_t row, float sum, float x_scale,
                                       float w_scale) {
    store_output(call, token, row, sum * (x_scale * w_scale));
}

static inline void store_int8_output(const LinearCall& call, int64_t token, int64_t row, int32_t sum, float x_scale,
                                     float w_scale) {
    store_scaled_output(call, token, row, static_cast<float>(sum), x_scale, w_scale);
}

}  // namespace sparsecore::cpu
