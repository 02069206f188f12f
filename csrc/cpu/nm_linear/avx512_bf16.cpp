// N:M linear in bf16 with AVX-512 BF16: as avx512.cpp, but a step is a pair of slots. One permutation of 16-bit
// elements fetches both inputs of 16 outputs out of 32, and one vdpbf16ps multiplies and adds both in fp32 (products
// exact; subnormal inputs and results count as zero, as the instruction is defined).
//
// Floor: half the instructions of the fp32 kernel for the same kept values; Zen 5 starts 1.67 vdpbf16ps a cycle. A
// processor that runs it at half the rate of a fused multiply-add gains nothing over fp32 arithmetic for many tokens.
#include "cpu/nm_linear/tile_loop.h"

namespace sparsecore::cpu {

namespace {

template <int kTokens, int kBlocks>
void run_tile(const Tile<uint16_t>& tile) {
    const InterleavedShape& s = *tile.shape;
    constexpr int64_t kWidth = 2 * kLanes;
    const int64_t block_values = s.steps * kWidth, block_codes = s.spans * s.span_words * kWidth;
    const auto* values = static_cast<const uint16_t*>(tile.values);
    const __m512i code_mask = _mm512_set1_epi16(static_cast<short>((1 << s.bits) - 1));
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(s.bits));
    __m512 sums[kBlocks][kTokens];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) sums[b][t] = _mm512_setzero_ps();
    }
    const uint16_t* codes = tile.codes;
    for (int64_t span = 0; span < s.spans; ++span, codes += s.span_words * kWidth) {
        const uint16_t* x = tile.x + span * s.span;
        __m512i inputs[kTokens];
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) inputs[t] = _mm512_loadu_si512(x + t * tile.x_stride);
        const int64_t left = s.steps - span * s.span_steps, steps = left < s.span_steps ? left : s.span_steps;
        const uint16_t* word = codes;
        for (int64_t first = 0; first < steps; first += s.word_codes, word += kWidth) {
            __m512i code[kBlocks];
#pragma GCC unroll 4
            for (int b = 0; b < kBlocks; ++b) code[b] = _mm512_load_si512(word + b * block_codes);
            prefetch_next(word, kBlocks * block_codes * 2);
            const int64_t end = first + s.word_codes < steps ? first + s.word_codes : steps;
#pragma GCC unroll 1
            for (int64_t step = first; step < end; ++step, values += kWidth) {
                const __m512i base = _mm512_set1_epi32(tile.bases[step]);
                prefetch_next(values, kBlocks * block_values * 2);
#pragma GCC unroll 4
                for (int b = 0; b < kBlocks; ++b) {
                    const auto weight = reinterpret_cast<__m512bh>(_mm512_load_si512(values + b * block_values));
                    const __m512i index = _mm512_add_epi16(_mm512_and_si512(code[b], code_mask), base);
                    code[b] = _mm512_srl_epi16(code[b], bits);
#pragma GCC unroll 16
                    for (int t = 0; t < kTokens; ++t) {
                        const auto picked = reinterpret_cast<__m512bh>(_mm512_permutexvar_epi16(index, inputs[t]));
                        sums[b][t] = _mm512_dpbf16_ps(sums[b][t], weight, picked);
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

TileKernel<uint16_t> choose(int64_t tokens, int64_t blocks) {
    static constexpr TileKernel<uint16_t> four[] = {run_tile<1, 4>, run_tile<2, 4>};
    static constexpr TileKernel<uint16_t> two[] = {run_tile<1, 2>, run_tile<2, 2>, run_tile<3, 2>,
                                                   run_tile<4, 2>, run_tile<5, 2>, run_tile<6, 2>};
    static constexpr TileKernel<uint16_t> one[kMaxTokens] = {
        run_tile<1, 1>, run_tile<2, 1>, run_tile<3, 1>, run_tile<4, 1>,  run_tile<5, 1>,  run_tile<6, 1>,
        run_tile<7, 1>, run_tile<8, 1>, run_tile<9, 1>, run_tile<10, 1>, run_tile<11, 1>, run_tile<12, 1>};
    return (blocks == 4 ? four : blocks == 2 ? two : one)[tokens - 1];
}

}  // namespace

void nm_linear_avx512_bf16(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                           uint16_t* panel) {
    run_part<core::DType::BF16, true>(call, weight, part, KernelSet<uint16_t>{choose, kMaxTokens, true}, panel);
}

}  // namespace sparsecore::cpu
