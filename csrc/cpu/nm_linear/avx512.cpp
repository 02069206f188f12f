// N:M linear with AVX-512 in fp32 arithmetic: one vector is 16 outputs of one token.
//
// A span of inputs of a token sits in one register (two for m > 16). For every slot, a permutation fetches for each of
// the 16 outputs the input that its kept value belongs to, and one fused multiply-add uses it. Weights and codes are
// loaded and decoded once for a tile of up to 12 tokens. Every output is one chain of additions in slot order, so its
// bits depend on neither the tile, nor the number of tokens, nor the threads.
//
// Floors. Compute: one permutation and one fused multiply-add for 16 kept values. On Zen 5 (three pipes do both kinds,
// two of them each) that is at best 1.5 pairs a cycle, 75 % of the fused multiply-add peak for real operations and, for
// 2:4, 1.5 times the peak of a dense kernel. Memory (few tokens): 4.25 bytes a kept fp32 value against 4 bytes for each
// dense one, so 1.88 times dense at the same bandwidth for 2:4; 2.25 against 2 bytes in 16-bit types, 1.78 times.
#include "cpu/nm_linear/tile_loop.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

constexpr int kMaxWideTokens = 6;  // m > 16: three registers a token

template <DType kType>
inline __m512 load_slot(const void* values, int64_t index) {
    if constexpr (kType == DType::F32) {
        return _mm512_load_ps(static_cast<const float*>(values) + index);
    } else {
        const auto* place = reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(values) + index);
        const __m256i bits = _mm256_load_si256(place);
        return kType == DType::F16 ? f16_bits_to_ps(bits) : bf16_bits_to_ps(bits);
    }
}

// One span of one token.
template <bool kWide>
struct Inputs {
    __m512 low, high;
};
template <>
struct Inputs<false> {
    __m512 low;
};

template <bool kWide>
inline __m512 pick(__m512i index, const Inputs<kWide>& x) {
    if constexpr (kWide) {
        return _mm512_permutex2var_ps(x.low, index, x.high);
    } else {
        return _mm512_permutexvar_ps(index, x.low);
    }
}

template <DType kType, int kTokens, int kBlocks, bool kWide>
void run_tile(const Tile<float>& tile) {
    const InterleavedShape& s = *tile.shape;
    const int64_t block_values = s.steps * kLanes, block_codes = s.spans * s.span_words * kLanes;
    constexpr int64_t kSize = core::itemsize(kType);
    const __m512i code_mask = _mm512_set1_epi32((1 << s.bits) - 1);
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(s.bits));
    __m512 sums[kBlocks][kTokens];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) sums[b][t] = _mm512_setzero_ps();
    }
    int64_t value = 0;
    const uint16_t* codes = tile.codes;
    for (int64_t span = 0; span < s.spans; ++span, codes += s.span_words * kLanes) {
        const float* x = tile.x + span * s.span;
        Inputs<kWide> inputs[kTokens];
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            inputs[t].low = _mm512_loadu_ps(x + t * tile.x_stride);
            if constexpr (kWide) inputs[t].high = _mm512_loadu_ps(x + t * tile.x_stride + kLanes);
        }
        const int64_t left = s.steps - span * s.span_steps, steps = left < s.span_steps ? left : s.span_steps;
        const uint16_t* word = codes;
        for (int64_t first = 0; first < steps; first += s.word_codes, word += kLanes) {
            __m512i code[kBlocks];
#pragma GCC unroll 4
            for (int b = 0; b < kBlocks; ++b) {
                const auto* place = reinterpret_cast<const __m256i*>(word + b * block_codes);
                code[b] = _mm512_cvtepu16_epi32(_mm256_load_si256(place));
            }
            prefetch_next(word, kBlocks * block_codes * 2);
            const int64_t end = first + s.word_codes < steps ? first + s.word_codes : steps;
#pragma GCC unroll 1
            for (int64_t step = first; step < end; ++step, value += kLanes) {
                const __m512i base = _mm512_set1_epi32(tile.bases[step]);
                prefetch_next(static_cast<const char*>(tile.values) + value * kSize, kBlocks * block_values * kSize);
#pragma GCC unroll 4
                for (int b = 0; b < kBlocks; ++b) {
                    const __m512 weight = load_slot<kType>(tile.values, b * block_values + value);
                    const __m512i index = _mm512_add_epi32(_mm512_and_si512(code[b], code_mask), base);
                    code[b] = _mm512_srl_epi32(code[b], bits);
#pragma GCC unroll 16
                    for (int t = 0; t < kTokens; ++t) {
                        sums[b][t] = _mm512_fmadd_ps(weight, pick<kWide>(index, inputs[t]), sums[b][t]);
                    }
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) _mm512_store_ps(tile.sums + (b * kTokens + t) * kLanes, sums[b][t]);
    }
}

template <DType kType>
TileKernel<float> narrow(int64_t tokens, int64_t blocks) {
    static constexpr TileKernel<float> four[] = {run_tile<kType, 1, 4, false>, run_tile<kType, 2, 4, false>};
    static constexpr TileKernel<float> two[] = {run_tile<kType, 1, 2, false>, run_tile<kType, 2, 2, false>,
                                                run_tile<kType, 3, 2, false>, run_tile<kType, 4, 2, false>,
                                                run_tile<kType, 5, 2, false>, run_tile<kType, 6, 2, false>};
    static constexpr TileKernel<float> one[kMaxTokens] = {
        run_tile<kType, 1, 1, false>,  run_tile<kType, 2, 1, false>,  run_tile<kType, 3, 1, false>,
        run_tile<kType, 4, 1, false>,  run_tile<kType, 5, 1, false>,  run_tile<kType, 6, 1, false>,
        run_tile<kType, 7, 1, false>,  run_tile<kType, 8, 1, false>,  run_tile<kType, 9, 1, false>,
        run_tile<kType, 10, 1, false>, run_tile<kType, 11, 1, false>, run_tile<kType, 12, 1, false>};
    return (blocks == 4 ? four : blocks == 2 ? two : one)[tokens - 1];
}

template <DType kType>
TileKernel<float> wide(int64_t tokens, int64_t) {
    static constexpr TileKernel<float> one[kMaxWideTokens] = {
        run_tile<kType, 1, 1, true>, run_tile<kType, 2, 1, true>, run_tile<kType, 3, 1, true>,
        run_tile<kType, 4, 1, true>, run_tile<kType, 5, 1, true>, run_tile<kType, 6, 1, true>};
    return one[tokens - 1];
}

template <DType kType>
void run(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part, float* panel) {
    const KernelSet<float> narrow_set{narrow<kType>, kMaxTokens, true}, wide_set{wide<kType>, kMaxWideTokens, false};
    run_part<kType, kType == DType::F32>(call, weight, part, weight.shape.m > kLanes ? wide_set : narrow_set, panel);
}

}  // namespace

void nm_linear_avx512(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                      float* panel) {
    switch (weight.dtype) {
        case DType::F16: return run<DType::F16>(call, weight, part, panel);
        case DType::BF16: return run<DType::BF16>(call, weight, part, panel);
        default: return run<DType::F32>(call, weight, part, panel);
    }
}

}  // namespace sparsecore::cpu
