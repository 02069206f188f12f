#include <immintrin.h>

#include "limits/kernels.h"

namespace sparsecore::limits {

uint64_t read_avx2(const void* data, int64_t lines) {
    const auto* p = static_cast<const char*>(data);
    __m256i sums[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) sums[i] = _mm256_setzero_si256();
    const auto half = [](const char* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); };
    const int64_t stream = lines / kStreams * 64;
    for (int64_t at = 0; at < stream; at += 64) {
#pragma GCC unroll 8
        for (int i = 0; i < 2 * kStreams; ++i) {
            sums[i] = _mm256_or_si256(sums[i], half(p + i / 2 * stream + at + i % 2 * 32));
        }
    }
    for (int64_t at = kStreams * stream; at < lines * 64; at += 32) sums[0] = _mm256_or_si256(sums[0], half(p + at));
#pragma GCC unroll 8
    for (int i = 1; i < 8; ++i) sums[0] = _mm256_or_si256(sums[0], sums[i]);
    return static_cast<uint64_t>(_mm256_extract_epi64(sums[0], 0) | _mm256_extract_epi64(sums[0], 3));
}

int64_t fp32_avx2(int64_t rounds, void* state) {
    auto* memory = static_cast<float*>(state);
    const __m256 scale = _mm256_set1_ps(0.999f), step = _mm256_set1_ps(0.001f);
    __m256 sums[kChains];
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm256_load_ps(memory + c * 8);
    for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sums[c] = _mm256_fmadd_ps(sums[c], scale, step);
    }
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) _mm256_store_ps(memory + c * 8, sums[c]);
    return rounds * kChains * 8 * 2;
}

}  // namespace sparsecore::limits
