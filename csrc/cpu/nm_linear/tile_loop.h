// What the AVX-512 kernels share: the loops over chunks of tokens, row blocks, depth and tiles, the tile itself, and the end
// of each output. Included by AVX-512 files only; everything is static.
//
// A kernel names its arithmetic:
//
//   struct Arithmetic {
//       using Input = ...;                  // type of x in registers: float, or uint16_t for bf16 pairs
//       static constexpr DType kType;       // of the weight, x and out
//       static constexpr int64_t kReach;    // inputs of a register
//       static constexpr int64_t kSpan;     // elements of a span: one register or two
//       static __m512i load_codes(const uint16_t*, __mmask16 lanes);
//       static __m512i next_codes(__m512i codes, __m128i bits);
//       static __m512 load_values(const void* values, __mmask16 lanes);
//       static __m512 multiply_add(__m512 values, __m512i index, const Input* x, __m512 sum);
//   };
#pragma once

#include <immintrin.h>

#include "cpu/common/avx512.h"
#include "cpu/nm_linear/interleaved.h"

namespace sparsecore::cpu {

// Some tokens times some row blocks times the spans of one piece of the depth.
template <class Input>
struct Tile {
    const InterleavedShape* shape;
    int64_t steps, word;   // of the piece; word: its first code word
    int64_t lanes;         // rows of a row block
    const void* values;    // of the first row block and step
    const uint16_t* codes;
    const Input* x;        // [spans][tokens][kSpan]
    const int32_t* bases;  // of each step: where its group begins in the span; for pairs, one in each half
    bool first;            // the sums begin at zero
    float* sums;           // [blocks, tokens, 16]
};

template <class Input>
using TileKernel = void (*)(const Tile<Input>&);

// Weights are used once a tile, too slowly for the hardware to run ahead far enough. An address past the end is never
// accessed.
constexpr int64_t kPrefetchSteps = 80;

static inline void prefetch(const void* here, int64_t bytes) {
    _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(here) + static_cast<uintptr_t>(bytes)),
                 _MM_HINT_T0);
}

// Weights and indices are loaded and decoded once for the tokens of the tile. Inputs are loaded where they are used: the
// compiler keeps as many in registers as there are, and a permutation takes the others from the first-level cache.
template <class Arithmetic, int kTokens, int kBlocks>
static void run_tile(const Tile<typename Arithmetic::Input>& tile) {
    const InterleavedShape& s = *tile.shape;
    constexpr int64_t kReach = Arithmetic::kReach;
    constexpr int64_t kWidth = kReach / kLanes, kLaneBytes = kWidth * core::itemsize(Arithmetic::kType);
    const int64_t step_bytes = tile.lanes * kLaneBytes, word_step = tile.lanes * kWidth;
    const int64_t block_values = s.steps * step_bytes, block_codes = s.words * word_step;
    const __mmask16 lanes = lanes16(tile.lanes);
    const __m512i code_mask = kReach == kLanes ? _mm512_set1_epi32((1 << s.bits) - 1)
                                               : _mm512_set1_epi16(static_cast<short>((1 << s.bits) - 1));
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(s.bits));
    __m512 sums[kBlocks][kTokens];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            sums[b][t] = tile.first ? _mm512_setzero_ps() : _mm512_load_ps(tile.sums + (b * kTokens + t) * kLanes);
        }
    }
    __m512i codes[kBlocks] = {};
    const uint16_t* word = tile.codes + tile.word * word_step;
    const char* values = static_cast<const char*>(tile.values);
    const auto* x = tile.x;
    int64_t left_in_word = 0, step = 0;
    for (int64_t span_end = s.span_steps; step < tile.steps; span_end += s.span_steps, x += kTokens * Arithmetic::kSpan) {
        const int64_t end = span_end < tile.steps ? span_end : tile.steps;
        const int32_t* base = tile.bases;
#pragma GCC unroll 1
        for (; step < end; ++step, ++base, --left_in_word, values += step_bytes) {
            if (left_in_word == 0) {
#pragma GCC unroll 4
                for (int b = 0; b < kBlocks; ++b) {
                    codes[b] = Arithmetic::load_codes(word + b * block_codes, lanes);
                    prefetch(word + b * block_codes, kPrefetchSteps / 8 * kReach * 2);
                }
                word += word_step;
                left_in_word = s.word_codes;
            }
#pragma GCC unroll 4
            for (int b = 0; b < kBlocks; ++b) {
                const __m512 weights = Arithmetic::load_values(values + b * block_values, lanes);
                prefetch(values + b * block_values, kPrefetchSteps * 64);
                // (codes & mask) | base
                const __m512i index = _mm512_ternarylogic_epi32(codes[b], code_mask, _mm512_set1_epi32(*base), 0xea);
                codes[b] = Arithmetic::next_codes(codes[b], bits);
#pragma GCC unroll 16
                for (int t = 0; t < kTokens; ++t) {
                    sums[b][t] = Arithmetic::multiply_add(weights, index, x + t * Arithmetic::kSpan, sums[b][t]);
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

template <class Arithmetic, int kBlocks, int kTokens>
static TileKernel<typename Arithmetic::Input> tile_of(int64_t tokens) {
    if constexpr (kTokens > 1) {
        if (tokens < kTokens) return tile_of<Arithmetic, kBlocks, kTokens - 1>(tokens);
    }
    return run_tile<Arithmetic, kTokens, kBlocks>;
}

// Few tokens take several row blocks at once: more independent chains of additions and streams from memory.
static inline int64_t blocks_at_once(int64_t tokens, int64_t blocks_left) {
    if (tokens > 8 || blocks_left < 2) return 1;
    return tokens <= 4 && blocks_left >= 4 ? 4 : 2;
}

template <class Arithmetic>
static TileKernel<typename Arithmetic::Input> choose_tile(int64_t tokens, int64_t blocks) {
    if (blocks == 4) return tile_of<Arithmetic, 4, 4>(tokens);
    if (blocks == 2) return tile_of<Arithmetic, 2, 8>(tokens);
    return tile_of<Arithmetic, 1, kTallestTile>(tokens);
}

template <core::DType kType>
static void store_sums(const LinearCall& call, int64_t token, int64_t row, int64_t tokens, const float* sums) {
    const __mmask16 mask = lanes16(call.rows - row);
    const __m512 bias = call.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, call.bias + row);
    for (int64_t t = 0; t < tokens; ++t) {
        const __m512 value = activate_ps(_mm512_add_ps(_mm512_load_ps(sums + t * kLanes), bias), call.activation);
        const int64_t place = (token + t) * call.out_token_stride + row * call.out_row_stride;
        if (call.out_row_stride == 1) {
            store_ps<kType>(call.out, place, mask, value);
            continue;
        }
        alignas(64) float lanes[kLanes];
        _mm512_store_ps(lanes, value);
        for (int64_t i = 0; i < kLanes && row + i < call.rows; ++i) {
            core::store_float(call.out, place + i * call.out_row_stride, kType, lanes[i]);
        }
    }
}

// One span of one token, filled up with zeros.
template <core::DType kType, class Input>
static void pack_span(const LinearCall& call, const InterleavedShape& s, int64_t token, int64_t column, Input* out) {
    const int64_t end = column + s.span < call.cols ? column + s.span : call.cols;
    const bool as_it_comes = call.x_column_stride == 1 && s.pitch == s.m;
    for (int64_t i = 0; i < s.span_width; i += s.reach) {
        if (!as_it_comes) {
            _mm512_store_si512(out + i, _mm512_setzero_si512());
        } else if constexpr (sizeof(Input) == 2) {
            const int64_t left = end - column - i;
            const __mmask32 mask = left >= 32 ? ~__mmask32{0} : left <= 0 ? 0 : (__mmask32{1} << left) - 1;
            const uint16_t* x = static_cast<const uint16_t*>(call.x) + token * call.x_token_stride + column + i;
            _mm512_store_si512(out + i, _mm512_maskz_loadu_epi16(mask, x));
        } else {
            const int64_t place = token * call.x_token_stride + column + i;
            _mm512_store_ps(out + i, load_ps<kType>(call.x, place, lanes16(end - column - i)));
        }
    }
    if (as_it_comes) return;
    for (int64_t group = 0; column < end; ++group, column += s.m) {
        for (int64_t i = 0; i < s.m && column + i < end; ++i) {
            const int64_t place = token * call.x_token_stride + (column + i) * call.x_column_stride;
            if constexpr (sizeof(Input) == 2) {
                out[group * s.pitch + i] = static_cast<const uint16_t*>(call.x)[place];
            } else {
                out[group * s.pitch + i] = core::load_float(call.x, place, kType);
            }
        }
    }
}

// The tokens of a chunk and their tiles, of nearly equal height.
struct Chunk {
    int64_t token, count, tiles;
    int64_t begin(int64_t i) const { return i * count / tiles; }
};

// Tile by tile: [spans][tokens of the tile][span_width], the order in which a tile reads it.
template <core::DType kType, class Input>
static void pack_chunk(const LinearCall& call, const InterleavedShape& s, const Chunk& chunk, Input* panel) {
    for (int64_t i = 0; i < chunk.tiles; ++i) {
        const int64_t begin = chunk.begin(i), end = chunk.begin(i + 1);
        Input* out = panel + begin * s.spans * s.span_width;
        for (int64_t span = 0; span < s.spans; ++span) {
            for (int64_t t = begin; t < end; ++t, out += s.span_width) {
                pack_span<kType>(call, s, chunk.token + t, span * s.span, out);
            }
        }
    }
}

// Spans whose weights and inputs of one tile stay in the first-level cache while the tiles of a chunk pass. Pieces begin
// with a code word.
static inline int64_t piece_spans(const InterleavedShape& s, core::DType type, int64_t tiles) {
    if (tiles == 1) return s.spans + (s.spans == 0);
    constexpr int64_t kCacheBytes = 26 * 1024;
    const int64_t weights = s.span_steps * s.reach * core::itemsize(type), inputs = kTallestTile * s.span_width;
    const int64_t spans = kCacheBytes / (weights + inputs * (s.width == 1 ? 4 : 2)) / s.word_codes * s.word_codes;
    return spans < s.word_codes ? s.word_codes : spans;
}

// All row blocks for one chunk of tokens.
template <class Arithmetic>
static void run_chunk(const LinearCall& call, const InterleavedWeight& w, const Chunk& chunk, const InterleavedPart& part,
                      Tile<typename Arithmetic::Input> tile, float* sums) {
    const InterleavedShape& s = w.shape;
    constexpr int64_t kSize = core::itemsize(Arithmetic::kType);
    const auto* x = tile.x;
    const int64_t spans = piece_spans(s, Arithmetic::kType, chunk.tiles), piece = spans * s.span_steps;
    for (int64_t block = part.block_begin, count = 0; block < part.block_end; block += count) {
        const int64_t whole = (part.block_end < s.rows / kLanes ? part.block_end : s.rows / kLanes) - block;
        count = blocks_at_once(chunk.count, whole);
        tile.lanes = block_lanes(s, block);
        tile.codes = w.codes + block * s.words * s.reach;
        for (int64_t step = 0; step == 0 || step < s.steps; step += piece) {
            tile.first = step == 0;
            tile.steps = s.steps - step < piece ? s.steps - step : piece;
            tile.word = step / s.word_codes;
            tile.values = static_cast<const char*>(w.values) + value_index(s, block, step * s.width, 0) * kSize;
            for (int64_t i = 0; i < chunk.tiles; ++i) {
                const int64_t begin = chunk.begin(i), tokens = chunk.begin(i + 1) - begin;
                tile.x = x + (begin * s.spans + step / piece * spans * tokens) * Arithmetic::kSpan;
                tile.sums = sums + begin * kLanes;
                choose_tile<Arithmetic>(tokens, count)(tile);
            }
        }
        for (int64_t b = 0; b < count; ++b) {
            store_sums<Arithmetic::kType>(call, chunk.token, (block + b) * kLanes, chunk.count,
                                          sums + b * chunk.count * kLanes);
        }
    }
}

// kRaw: x is read in the type in which it comes.
template <class Arithmetic, bool kRaw>
static void run_part(const LinearCall& call, const InterleavedWeight& w, const InterleavedPart& part,
                     const InterleavedScratch& scratch) {
    using Input = typename Arithmetic::Input;
    const InterleavedShape& s = w.shape;
    int32_t bases[32];
    for (int64_t step = 0; step < s.span_steps; ++step) {
        bases[step] = static_cast<int32_t>(step * s.width / s.n * s.pitch);
        if (s.width == 2) bases[step] |= static_cast<int32_t>((step * s.width + 1) / s.n * s.pitch) << 16;
    }
    Tile<Input> tile{};
    tile.shape = &s;
    tile.bases = bases;
    const bool direct = kRaw && call.x_column_stride == 1 && s.pitch == s.m && s.cols % s.span_width == 0;
    for (int64_t token = part.token_begin; token < part.token_end; token += part.panel_tokens) {
        Chunk chunk{token, part.token_end - token, 1};
        if (chunk.count > part.panel_tokens) chunk.count = part.panel_tokens;
        chunk.tiles = (chunk.count + kTallestTile - 1) / kTallestTile;
        if (direct && chunk.count == 1) {
            tile.x = static_cast<const Input*>(call.x) + token * call.x_token_stride;
        } else {
            auto* panel = static_cast<Input*>(scratch.inputs);
            pack_chunk<Arithmetic::kType>(call, s, chunk, panel);
            tile.x = panel;
        }
        run_chunk<Arithmetic>(call, w, chunk, part, tile, scratch.sums);
    }
}

}  // namespace sparsecore::cpu
