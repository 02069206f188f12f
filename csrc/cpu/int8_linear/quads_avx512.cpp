// int8 N:M linear with AVX-512 VBMI and VNNI. A permutation of bytes fetches the inputs of four kept values of 16 outputs
// out of the 64 of a span, and one vpdpbusd multiplies and adds them: at 2:4 half the products of a dense kernel.
//
// Floor: Zen 4 starts 12 permutations and 12 products of 512 bits in 16 cycles, where a dense kernel needs 24 products
// and as many cycles. A processor with one port for permutations does no better than dense once tokens are many.
#include "cpu/int8_linear/output_avx512.h"
#include "cpu/int8_linear/quads.h"

namespace sparsecore::cpu {

namespace {

constexpr int kMaxTokens = 12;  // of a tile: sums and inputs take two registers a token
constexpr int kMaxBlocks = 4;
constexpr int64_t kAhead = 2 * kQuadReach;  // inputs are prefetched two spans before they are used

struct QuadTile {
    const QuadShape* shape;
    const int8_t* values;  // of the first row block
    const uint8_t* codes;
    const int32_t* corrections;
    const uint8_t* x;
    int64_t x_stride;
    const int32_t* bases;  // of each step: first input of the group of each of its slots, relative to the span
    int32_t* sums;         // [blocks][tokens][16]
};

// An address past the end is never accessed.
template <_mm_hint kHint>
void prefetch(const void* here, int64_t bytes) {
    _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(here) + static_cast<uintptr_t>(bytes)), kHint);
}

// The weights of the next row blocks come into the second-level cache while these are multiplied: a tile of many tokens
// reads them too slowly for the hardware to run ahead.
template <int kTokens, int kBlocks>
void run_tile(const QuadTile& tile) {
    const QuadShape& s = *tile.shape;
    const int64_t block_values = s.steps * kQuadBytes, block_codes = s.spans * s.span_words * kQuadBytes;
    const __m512i code_mask = _mm512_set1_epi8(static_cast<char>((1 << s.bits) - 1));
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(s.bits));
    const int8_t* values = tile.values;
    const uint8_t* codes = tile.codes;
    __m512i sums[kBlocks][kTokens];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) sums[b][t] = _mm512_loadu_si512(tile.corrections + b * kQuadRows);
    }
    for (int64_t span = 0; span < s.spans; ++span) {
        const uint8_t* x = tile.x + span * s.span;
        __m512i inputs[kTokens];
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) inputs[t] = _mm512_loadu_si512(x + t * tile.x_stride);
        // The hardware follows too few streams for so many tokens.
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) prefetch<_MM_HINT_T0>(x, t * tile.x_stride + kAhead);
        const int64_t left = s.steps - span * s.span_steps, steps = left < s.span_steps ? left : s.span_steps;
        const uint8_t* word = codes + span * s.span_words * kQuadBytes;
        for (int64_t first = 0; first < steps; first += s.word_steps, word += kQuadBytes) {
            __m512i code[kBlocks];
#pragma GCC unroll 4
            for (int b = 0; b < kBlocks; ++b) {
                code[b] = _mm512_load_si512(word + b * block_codes);
                prefetch<_MM_HINT_T1>(word, (b + kBlocks) * block_codes);
            }
            const int64_t end = first + s.word_steps < steps ? first + s.word_steps : steps;
#pragma GCC unroll 1
            for (int64_t step = first; step < end; ++step, values += kQuadBytes) {
                const __m512i base = _mm512_set1_epi32(tile.bases[step]);
#pragma GCC unroll 4
                for (int b = 0; b < kBlocks; ++b) {
                    const __m512i weight = _mm512_load_si512(values + b * block_values);
                    prefetch<_MM_HINT_T1>(values, (b + kBlocks) * block_values);
                    const __m512i index = _mm512_add_epi8(_mm512_and_si512(code[b], code_mask), base);
                    code[b] = _mm512_srl_epi32(code[b], bits);
#pragma GCC unroll 16
                    for (int t = 0; t < kTokens; ++t) {
                        sums[b][t] = _mm512_dpbusd_epi32(sums[b][t], _mm512_permutexvar_epi8(index, inputs[t]), weight);
                    }
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) _mm512_store_si512(tile.sums + (b * kTokens + t) * kQuadRows, sums[b][t]);
    }
}

using TileKernel = void (*)(const QuadTile&);

TileKernel choose(int64_t tokens, int64_t blocks) {
    static constexpr TileKernel four[] = {run_tile<1, 4>, run_tile<2, 4>};
    static constexpr TileKernel two[] = {run_tile<1, 2>, run_tile<2, 2>, run_tile<3, 2>,
                                         run_tile<4, 2>, run_tile<5, 2>, run_tile<6, 2>};
    static constexpr TileKernel one[kMaxTokens] = {
        run_tile<1, 1>, run_tile<2, 1>, run_tile<3, 1>, run_tile<4, 1>,  run_tile<5, 1>,  run_tile<6, 1>,
        run_tile<7, 1>, run_tile<8, 1>, run_tile<9, 1>, run_tile<10, 1>, run_tile<11, 1>, run_tile<12, 1>};
    return (blocks == 4 ? four : blocks == 2 ? two : one)[tokens - 1];
}

// Few tokens take several row blocks at once: more independent chains of additions, fewer loads of inputs.
int64_t blocks_at_once(int64_t tokens, int64_t left) {
    if (tokens > 6 || left < 2) return 1;
    return tokens <= 2 && left >= kMaxBlocks ? kMaxBlocks : 2;
}

// All row blocks for `count` tokens, whose quantised inputs stay in the second-level cache.
void run_chunk(const LinearCall& call, const QuadWeight& w, const OffsetTokens& tokens, int64_t begin, int64_t count,
               int64_t block_begin, int64_t block_end, QuadTile tile) {
    const QuadShape& s = w.shape;
    const int64_t tiles = (count + kMaxTokens - 1) / kMaxTokens;
    alignas(64) int32_t sums[kMaxTokens * kQuadRows];
    tile.sums = sums;
    for (int64_t block = block_begin, step = 0; block < block_end; block += step) {
        step = blocks_at_once(count, block_end - block);
        tile.values = w.values + block * s.steps * kQuadBytes;
        tile.codes = w.codes + block * s.spans * s.span_words * kQuadBytes;
        tile.corrections = w.corrections + block * kQuadRows;
        for (int64_t i = 0; i < tiles; ++i) {
            const int64_t first = begin + i * count / tiles, size = begin + (i + 1) * count / tiles - first;
            const int64_t place = first - tokens.begin;
            tile.x = tokens.values + place * tokens.stride;
            choose(size, step)(tile);
            for (int64_t b = 0; b < step; ++b) {
                const int64_t row = (block + b) * kQuadRows;
                for (int64_t t = 0; t < size; ++t) {
                    store_int8_sums(call, first + t, row, _mm512_load_si512(sums + (b * size + t) * kQuadRows),
                                    tokens.scales[place + t], w.scales + row);
                }
            }
        }
    }
}

}  // namespace

void int8_quads_avx512(const LinearCall& call, const QuadWeight& w, const OffsetTokens& tokens, int64_t block_begin,
                       int64_t block_end) {
    const QuadShape& s = w.shape;
    int32_t bases[kQuadReach / kQuadSlots];
    for (int64_t step = 0; step < s.span_steps; ++step) {
        uint32_t base = 0;
        for (int64_t i = 0; i < kQuadSlots; ++i) {
            base |= static_cast<uint32_t>((step * kQuadSlots + i) / s.n * s.m) << (8 * i);
        }
        bases[step] = static_cast<int32_t>(base);
    }
    QuadTile tile{};
    tile.shape = &s;
    tile.bases = bases;
    tile.x_stride = tokens.stride;
    constexpr int64_t kCacheBytes = 384 * 1024;
    const int64_t fitting = kCacheBytes / tokens.stride / kMaxTokens * kMaxTokens;
    const int64_t chunk = fitting < kMaxTokens ? kMaxTokens : fitting;
    for (int64_t token = tokens.begin; token < tokens.end; token += chunk) {
        const int64_t count = tokens.end - token < chunk ? tokens.end - token : chunk;
        run_chunk(call, w, tokens, token, count, block_begin, block_end, tile);
    }
}

}  // namespace sparsecore::cpu
