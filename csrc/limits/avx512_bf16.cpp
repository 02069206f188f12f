#include <immintrin.h>

#include "limits/kernels.h"

namespace sparsecore::limits {

// vdpbf16ps: 2 products of bf16 into each of 16 fp32.
int64_t bf16_avx512(int64_t rounds, void* state) {
    auto* memory = static_cast<float*>(state);
    const __m512 ones = _mm512_set1_ps(1.0f);
    const __m512bh left = _mm512_cvtne2ps_pbh(ones, ones), right = left;
    __m512 sums[kChains];
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_load_ps(memory + c * 16);
    for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], left, right);
    }
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) _mm512_store_ps(memory + c * 16, sums[c]);
    return rounds * kChains * 16 * 2 * 2;
}

}  // namespace sparsecore::limits
