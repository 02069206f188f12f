// Products with dense rows, 32 elements a step. Included by files compiled for AVX-512 only.
#pragma once

#include "cpu/attention/decode/avx512_sums.h"
#include "cpu/common/avx512.h"

namespace sparsecore::cpu {

static inline __mmask32 lanes32(int64_t count) { return count >= 32 ? ~0u : count <= 0 ? 0u : (1u << count) - 1u; }

// bf16 as fp32 without a shuffle: the even elements, and the odd ones with their neighbour below the 16th bit cleared.
static inline __m512 even_bf16(__m512i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)); }
static inline __m512 odd_bf16(__m512i bits) {
    return _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// 32 elements of a row: even and odd ones of bf16, else the first and the second 16.
template <core::DType kType>
static inline void load_pair(const void* row, int64_t first, int64_t left, __m512 (&pair)[2]) {
    if constexpr (kType == core::DType::BF16) {
        const __m512i bits = _mm512_maskz_loadu_epi16(lanes32(left), static_cast<const uint16_t*>(row) + first);
        pair[0] = even_bf16(bits);
        pair[1] = odd_bf16(bits);
    } else {
        pair[0] = load_ps<kType>(row, first, lanes16(left));
        pair[1] = load_ps<kType>(row, first + 16, lanes16(left - 16));
    }
}

// Where element d of 32 lies after load_pair.
template <core::DType kType>
static inline int64_t place_in_pair(int64_t d) {
    if constexpr (kType == core::DType::BF16) return d / 32 * 32 + d % 2 * 16 + d % 32 / 2;
    return d;
}

}  // namespace sparsecore::cpu
