// What the search for the k largest asks of an instruction set: a few passes over one row, each in plain C++, AVX2 and
// AVX-512. Elements are compared through *keys*, int32 that sort as the elements do, and mostly through *digits*, the
// upper 16 bits of a key: a vector holds twice as many, and f16 and bf16 need no more. Functions are static, so that no
// copy compiled for one instruction set can be linked into other code.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace sparsecore::cpu {

constexpr int32_t kNanKey = INT32_MAX;  // NaN is larger than every number
constexpr int64_t kTopkChunk = 2048;    // elements that `collect` takes at most: its output stays in the L1 cache
constexpr int64_t kTopkPadding = 32;    // elements that a pass may write past its output

// Bit pattern of the infinity of a 16-bit type; whatever is larger without its sign is NaN.
constexpr uint16_t infinity_bits(core::DType dtype) { return dtype == core::DType::F16 ? 0x7c00u : 0x7f80u; }

// Negative numbers grow with falling magnitude: the key is the negated magnitude, which makes -0 equal +0 as well.
static inline int32_t key_of_f32(uint32_t bits) {
    if ((bits & 0x7fffffffu) > 0x7f800000u) return kNanKey;
    return static_cast<int32_t>((bits & 0x80000000u) != 0 ? 0x80000000u - bits : bits);
}

static inline int16_t digit_of_half(uint16_t bits, uint16_t infinity) {
    if ((bits & 0x7fffu) > infinity) return INT16_MAX;
    return static_cast<int16_t>((bits & 0x8000u) != 0 ? 0x8000u - bits : bits);
}

// The key of a 16-bit element is its digit above 16 zero bits.
static inline int32_t key_at(core::DType dtype, const void* x, int64_t i) {
    if (dtype == core::DType::F32) return key_of_f32(static_cast<const uint32_t*>(x)[i]);
    return digit_of_half(static_cast<const uint16_t*>(x)[i], infinity_bits(dtype)) * 65536;
}

static inline int16_t high_digit(int32_t key) { return static_cast<int16_t>(key >> 16); }
// As signed as the high one, so that both are searched in one way.
static inline int16_t low_digit(int32_t key) { return static_cast<int16_t>((key & 0xffff) - 0x8000); }
static inline int32_t join_digits(int16_t high, int16_t low) { return high * 65536 + (low + 0x8000); }

struct TopkKernels {
    void (*digits)(core::DType dtype, const void* x, int64_t n, int16_t* digits);

    // How many digits are at least `least`.
    int64_t (*count)(const int16_t* digits, int64_t n, int16_t least);

    // The digits from `low` to `high`, in order; returns how many there are.
    int64_t (*between)(const int16_t* digits, int64_t n, int16_t low, int16_t high, int16_t* out);

    // The low digits of the elements whose digit is `high`, in order; returns how many there are.
    int64_t (*low_digits)(const uint32_t* x, const int16_t* digits, int64_t n, int16_t high, int16_t* low);

    // Elements with a key of at least `least` among n <= kTopkChunk: their bits and positions, ascending; returns how
    // many there are.
    int64_t (*collect)(core::DType dtype, const void* x, const int16_t* digits, int64_t n, int32_t least, void* values,
                       uint16_t* positions);

    // out[i] = positions[i] + base
    void (*widen)(const uint16_t* positions, int64_t n, int64_t base, int64_t* out);
};

// Those of the instruction set in use.
TopkKernels topk_kernels();

TopkKernels topk_portable();
TopkKernels topk_avx2();
TopkKernels topk_avx512();

}  // namespace sparsecore::cpu
