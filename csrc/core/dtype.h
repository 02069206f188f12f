// Element types and scalar conversions (round to nearest even). The functions are static so that a copy compiled
// with the flags of one instruction set can never be linked into code that runs on another machine.
#pragma once

#include <cstdint>
#include <cstring>

namespace sparsecore::core {

// F8: e4m3, four bits of exponent and three of fraction, without infinities (Micikevicius et al., arXiv:2209.05433).
enum class DType : uint32_t { F32 = 0, F16 = 1, BF16 = 2, I8 = 3, F8 = 4, U8 = 5, I32 = 6, I64 = 7 };

constexpr int64_t itemsize(DType dtype) {
    constexpr int64_t sizes[] = {4, 2, 2, 1, 1, 1, 4, 8};
    return sizes[static_cast<uint32_t>(dtype)];
}

constexpr const char* dtype_name(DType dtype) {
    constexpr const char* names[] = {"f32", "f16", "bf16", "i8", "f8", "u8", "i32", "i64"};
    return names[static_cast<uint32_t>(dtype)];
}

// What activations and weights are computed with.
constexpr bool is_float(DType dtype) { return static_cast<uint32_t>(dtype) <= 2; }

// Values that mean value * scale: a weight of such a type has one scale a row, and activations are quantised to it.
constexpr bool is_quantised(DType dtype) { return dtype == DType::I8 || dtype == DType::F8; }

// The largest value that a quantised number may have.
constexpr float largest_value(DType dtype) { return dtype == DType::I8 ? 127.0f : 448.0f; }

static inline uint32_t float_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

static inline float bits_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

static inline float bf16_to_f32(uint16_t bits) { return bits_float(static_cast<uint32_t>(bits) << 16); }

static inline uint16_t f32_to_bf16(float value) {
    const uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);  // NaN stays NaN
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float f16_to_f32(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
    const uint32_t magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return bits_float(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    if (magnitude >= 0x0400u) return bits_float(sign | ((magnitude << 13) + 0x38000000u));
    const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
    return bits_float(sign | float_bits(subnormal));
}

static inline uint16_t f32_to_f16(float value) {
    const uint32_t bits = float_bits(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds past 65504
    if (magnitude < 0x38800000u) {
        // Adding 0.5 aligns the last bit with 2^-24, the step of fp16 subnormals: the addition rounds to even.
        const float shifted = bits_float(magnitude) + 0.5f;
        return static_cast<uint16_t>(sign | (float_bits(shifted) - 0x3f000000u));
    }
    const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
    return static_cast<uint16_t>(sign | (rounded >> 13));
}

constexpr bool is_e4m3_nan(uint8_t bits) { return (bits & 0x7fu) == 0x7fu; }

static inline float e4m3_to_f32(uint8_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24;
    const uint32_t magnitude = bits & 0x7fu;
    if (is_e4m3_nan(bits)) return bits_float(sign | 0x7fc00000u);
    if (magnitude >= 0x08u) return bits_float(sign | ((magnitude << 20) + 0x3c000000u));
    return bits_float(sign | float_bits(static_cast<float>(magnitude) * 0x1p-9f));
}

// What is beyond 448, the largest number, becomes it.
static inline uint8_t f32_to_e4m3(float value) {
    const uint32_t bits = float_bits(value);
    const uint32_t sign = (bits >> 24) & 0x80u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
    if (magnitude >= 0x43e00000u) return static_cast<uint8_t>(sign | 0x7eu);
    if (magnitude < 0x3c800000u) {
        // As above: 2^14 aligns the last bit with 2^-9, the step of e4m3 subnormals.
        const float shifted = bits_float(magnitude) + 0x1p14f;
        return static_cast<uint8_t>(sign | (float_bits(shifted) - 0x46800000u));
    }
    const uint32_t rounded = magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u);
    return static_cast<uint8_t>(sign | (rounded >> 20));
}

// One element of a float tensor as fp32, and the one rounding of a result.
static inline float load_float(const void* data, int64_t index, DType dtype) {
    if (dtype == DType::F32) return static_cast<const float*>(data)[index];
    const uint16_t bits = static_cast<const uint16_t*>(data)[index];
    return dtype == DType::F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

static inline void store_float(void* data, int64_t index, DType dtype, float value) {
    if (dtype == DType::F32) {
        static_cast<float*>(data)[index] = value;
    } else {
        static_cast<uint16_t*>(data)[index] = dtype == DType::F16 ? f32_to_f16(value) : f32_to_bf16(value);
    }
}

}  // namespace sparsecore::core
