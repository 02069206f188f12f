// Few tokens: a vector is consecutive values of one row within a chunk. Their activations are picked out of the chunk's,
// which a permutation reaches at once, by their column: no gather. Lanes without a value are masked on both sides, so
// that a pruned position contributes nothing whatever the activation there.
//
// Floor: of 128 columns in 16 bits 4 loads, 2 permutations and a product a token, for up to 32 values.
// Included by AVX-512 files only; everything is static. Math says what an element is and how it is multiplied.
#pragma once

#include "cpu/bitmask_linear/kernels.h"
#include "cpu/common/avx512_output.h"

namespace sparsecore::cpu {

static inline uint32_t lane_bits(int64_t count) { return count <= 0 ? 0 : _bzhi_u32(~0u, static_cast<uint32_t>(count)); }

// The activations of 32 columns (16 bits each) within a chunk.
static inline __m512i pick16(const uint16_t* x, __m512i columns, __mmask32 high, __mmask32 mask) {
    const __m512i a = _mm512_load_si512(x), b = _mm512_load_si512(x + 32), c = _mm512_load_si512(x + 64),
                  d = _mm512_load_si512(x + 96);
    const __m512i low = _mm512_maskz_permutex2var_epi16(mask, a, columns, b);
    return _mm512_mask_mov_epi16(low, high, _mm512_maskz_permutex2var_epi16(mask, c, columns, d));
}

// kUnroll steps are taken in any case, so that the count of a chunk rarely decides a branch.
template <class Math, int kTokens, int kUnroll>
static void sum_rows(const RowLists& lists, int64_t rows, int64_t chunks, const typename Math::Element* x, float* sums) {
    const auto* values = static_cast<const typename Math::Element*>(lists.values);
    const uint8_t *columns = lists.columns, *counts = lists.counts;
    const int64_t stride = chunks * kChunk;
    for (int64_t row = 0; row < rows; ++row) {
        __m512 sum[kTokens];
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) sum[t] = _mm512_setzero_ps();
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const int64_t count = *counts++;
            const typename Math::Element* tile = x + chunk * kChunk;
            _mm_prefetch(reinterpret_cast<const char*>(values) + 2048, _MM_HINT_T0);
            _mm_prefetch(reinterpret_cast<const char*>(columns) + 1024, _MM_HINT_T0);
#pragma GCC unroll 4
            for (int u = 0; u < kUnroll; ++u) {
                const int64_t i = u * Math::kLanes;
                Math::template step<kTokens>(values + i, columns + i, lane_bits(count - i), tile, stride, sum);
            }
            for (int64_t i = kUnroll * Math::kLanes; __builtin_expect(i < count, 0); i += Math::kLanes) {
                Math::template step<kTokens>(values + i, columns + i, lane_bits(count - i), tile, stride, sum);
            }
            values += count;
            columns += count;
        }
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) _mm512_store_ps(sums + (t * kRowGroup + row) * 16, sum[t]);
    }
}

// Lane i: the sum of the lanes of row i.
static inline __m512 sum_lanes(const float* sums) {
    __m512 block[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) block[i] = _mm512_load_ps(sums + 16 * i);
    transpose16(block);
#pragma GCC unroll 4
    for (int half = 8; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < half; ++i) block[i] = _mm512_add_ps(block[i], block[i + half]);
    }
    return block[0];
}

template <class Math, int kTokens>
static void few_tokens(const LinearCall& call, const RowLists& lists, int64_t row, int64_t rows, double density,
                       const void* x) {
    alignas(64) float sums[kTokens * kRowGroup * 16] = {};
    const int64_t chunks = chunk_count(call.cols);
    const auto* activations = static_cast<const typename Math::Element*>(x);
    if (density * kChunk < 0.7 * Math::kLanes) {
        sum_rows<Math, kTokens, 1>(lists, rows, chunks, activations, sums);
    } else {
        sum_rows<Math, kTokens, 2>(lists, rows, chunks, activations, sums);
    }
    for (int t = 0; t < kTokens; ++t) {
        store_outputs<Math::kType>(call, t, row, lanes16(rows), sum_lanes(sums + t * kRowGroup * 16));
    }
}

template <class Math>
static void few_rows(const LinearCall& call, const RowLists& lists, int64_t row, int64_t rows, double density,
                     const void* x) {
    switch (call.tokens) {
        case 1: few_tokens<Math, 1>(call, lists, row, rows, density, x); return;
        case 2: few_tokens<Math, 2>(call, lists, row, rows, density, x); return;
        case 3: few_tokens<Math, 3>(call, lists, row, rows, density, x); return;
        case 4: few_tokens<Math, 4>(call, lists, row, rows, density, x); return;
        default: break;
    }
    if constexpr (Math::kMostTokens > 4) {
        switch (call.tokens) {
            case 5: few_tokens<Math, 5>(call, lists, row, rows, density, x); return;
            case 6: few_tokens<Math, 6>(call, lists, row, rows, density, x); return;
            case 7: few_tokens<Math, 7>(call, lists, row, rows, density, x); return;
            default: few_tokens<Math, 8>(call, lists, row, rows, density, x); return;
        }
    }
}

}  // namespace sparsecore::cpu
