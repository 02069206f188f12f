// The three steps of a row, each in plain C++ and in AVX-512. A key is an int32 that sorts as the value does.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace sparsecore::cpu {

constexpr int32_t kNanKey = INT32_MAX;

static inline int32_t key_of(float value) {
    const uint32_t bits = core::float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return kNanKey;
    if (bits == 0x80000000u) return 0;  // -0 equals +0
    // Negative numbers grow with falling magnitude: their magnitude bits are inverted.
    return static_cast<int32_t>((bits & 0x80000000u) != 0 ? bits ^ 0x7fffffffu : bits);
}

static inline float value_of(int32_t key) {
    if (key == kNanKey) return core::bits_float(0x7fc00000u);
    const auto bits = static_cast<uint32_t>(key);
    return core::bits_float(key < 0 ? bits ^ 0x7fffffffu : bits);
}

struct TopkKernels {
    // Keys of n neighbouring elements.
    void (*keys)(core::DType dtype, const void* x, int64_t n, int32_t* keys);
    // The k-th largest key, 1 <= k <= n; scratch: n + 16 keys.
    int32_t (*kth)(const int32_t* keys, int64_t n, int64_t k, int32_t* scratch);
    // Indices of the k largest, the k-th being `threshold`: all larger ones and as many equal ones as are missing.
    void (*emit)(const int32_t* keys, int64_t n, int64_t k, int32_t threshold, int64_t* indices);
};

TopkKernels topk_portable();
TopkKernels topk_avx512();

}  // namespace sparsecore::cpu
