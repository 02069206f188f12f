#include <immintrin.h>

#include "cpu/int8_linear/pairs.h"

namespace sparsecore::cpu {

namespace {

template <int kTokens>
void run_tile(const int16_t* panel, const int16_t* x, int64_t x_stride, int64_t pairs, int32_t* out) {
    __m256i sums[kTokens][2];
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) sums[t][0] = sums[t][1] = _mm256_setzero_si256();
    for (int64_t pair = 0; pair < pairs; ++pair, panel += 2 * kPairRows) {
        const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel));
        const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel + kPairRows));
#pragma GCC unroll 6
        for (int t = 0; t < kTokens; ++t) {
            int32_t two;
            __builtin_memcpy(&two, x + t * x_stride + 2 * pair, 4);
            const __m256i input = _mm256_set1_epi32(two);
            sums[t][0] = _mm256_add_epi32(sums[t][0], _mm256_madd_epi16(input, low));
            sums[t][1] = _mm256_add_epi32(sums[t][1], _mm256_madd_epi16(input, high));
        }
    }
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(out + t * kPairRows), sums[t][0]);
        _mm256_store_si256(reinterpret_cast<__m256i*>(out + t * kPairRows + 8), sums[t][1]);
    }
}

}  // namespace

void int8_pairs_avx2(const int16_t* panel, const int16_t* x, int64_t x_stride, int64_t tokens, int64_t pairs,
                     int32_t* sums) {
    static constexpr void (*tiles[kPairTokens])(const int16_t*, const int16_t*, int64_t, int64_t, int32_t*) = {
        run_tile<1>, run_tile<2>, run_tile<3>, run_tile<4>, run_tile<5>, run_tile<6>};
    tiles[tokens - 1](panel, x, x_stride, pairs, sums);
}

}  // namespace sparsecore::cpu
