#include <immintrin.h>

#include "limits/kernels.h"

namespace sparsecore::limits {

uint64_t read_avx512(const void* data, int64_t lines) {
    const auto* p = static_cast<const char*>(data);
    __m512i sums[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) sums[i] = _mm512_setzero_si512();
    const int64_t stream = lines / kStreams / 2 * 2 * 64;
    for (int64_t at = 0; at < stream; at += 128) {
#pragma GCC unroll 8
        for (int i = 0; i < 2 * kStreams; ++i) {
            const char* line = p + i / 2 * stream + at + i % 2 * 64;
            sums[i] = _mm512_or_si512(sums[i], _mm512_load_si512(line));
        }
    }
    for (int64_t at = kStreams * stream; at < lines * 64; at += 64) {
        sums[0] = _mm512_or_si512(sums[0], _mm512_load_si512(p + at));
    }
#pragma GCC unroll 8
    for (int i = 1; i < 8; ++i) sums[0] = _mm512_or_si512(sums[0], sums[i]);
    return static_cast<uint64_t>(_mm512_reduce_or_epi64(sums[0]));
}

int64_t fp32_avx512(int64_t rounds, void* state) {
    auto* memory = static_cast<float*>(state);
    const __m512 scale = _mm512_set1_ps(0.999f), step = _mm512_set1_ps(0.001f);
    __m512 sums[kChains];
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_load_ps(memory + c * 16);
    for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sums[c] = _mm512_fmadd_ps(sums[c], scale, step);
    }
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) _mm512_store_ps(memory + c * 16, sums[c]);
    return rounds * kChains * 16 * 2;
}

// vpdpbusd: 4 products of u8 and i8 into each of 16 int32.
int64_t int8_avx512(int64_t rounds, void* state) {
    auto* memory = static_cast<char*>(state);
    const __m512i left = _mm512_load_si512(memory), right = _mm512_load_si512(memory + 64);
    __m512i sums[kChains];
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_load_si512(memory + c * 64);
    for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], left, right);
    }
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) _mm512_store_si512(memory + c * 64, sums[c]);
    return rounds * kChains * 16 * 4 * 2;
}

}  // namespace sparsecore::limits
