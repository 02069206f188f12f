// The loops around the tile kernels: chunks of tokens, row blocks, tiles of tokens, and the end of each output.
// Included by AVX-512 files only; everything is static.
#pragma once

#include <immintrin.h>

#include "cpu/common/avx512.h"
#include "cpu/nm_linear/interleaved.h"

namespace sparsecore::cpu {

constexpr int kMaxTokens = 12;  // of a tile: sums and inputs take two registers a token

// Input: the type in which a kernel reads activations, float or (bf16 bits) uint16_t.
template <class Input>
struct Tile {
    const InterleavedShape* shape;
    const void* values;  // of the first row block
    const uint16_t* codes;
    const Input* x;  // [tokens, x_stride], readable up to the end of the last span
    int64_t x_stride;
    const int32_t* bases;  // of each step: first input of its group, relative to the span
    float* sums;           // [blocks, tokens, 16]
};

template <class Input>
using TileKernel = void (*)(const Tile<Input>&);

// What differs between the kernels: which function runs a tile of so many tokens and row blocks.
template <class Input>
struct KernelSet {
    TileKernel<Input> (*choose)(int64_t tokens, int64_t blocks);
    int64_t max_tokens;
    bool several_blocks;
};

// The weights of the next row block come into the second-level cache while this one is multiplied: a tile of many
// tokens reads them too slowly for the hardware to run ahead. An address past the end is never accessed.
static inline void prefetch_next(const void* here, int64_t bytes) {
    _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(here) + static_cast<uintptr_t>(bytes)),
                 _MM_HINT_T1);
}

// Few tokens take several row blocks at once: more independent chains of additions, fewer loads of inputs.
static inline int64_t blocks_at_once(int64_t tokens, int64_t blocks_left) {
    if (tokens > 6 || blocks_left < 2) return 1;
    return tokens <= 2 && blocks_left >= 4 ? 4 : 2;
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

template <core::DType kType>
static void pack_row(const LinearCall& call, int64_t token, int64_t stride, float* row) {
    for (int64_t k = 0; k < stride; k += kLanes) {
        if (call.x_column_stride == 1 || k >= call.cols) {
            const int64_t place = token * call.x_token_stride + k;
            _mm512_store_ps(row + k, load_ps<kType>(call.x, place, lanes16(call.cols - k)));
            continue;
        }
        for (int64_t i = k; i < k + kLanes; ++i) row[i] = i < call.cols ? load_x(call, token, i) : 0.0f;
    }
}

template <core::DType kType>
static void pack_row(const LinearCall& call, int64_t token, int64_t stride, uint16_t* row) {
    const uint16_t* x = static_cast<const uint16_t*>(call.x) + token * call.x_token_stride;
    for (int64_t i = 0; i < stride; ++i) row[i] = i < call.cols ? x[i * call.x_column_stride] : uint16_t{0};
}

// All row blocks for one chunk of tokens; a row block stays in the first-level cache while the tiles pass.
template <core::DType kType, class Input>
static void run_chunk(const LinearCall& call, const InterleavedWeight& w, int64_t token, int64_t count,
                      const InterleavedPart& part, const KernelSet<Input>& kernels, Tile<Input> tile) {
    const InterleavedShape& s = w.shape;
    const int64_t tiles = (count + kernels.max_tokens - 1) / kernels.max_tokens;
    const Input* x = tile.x;
    alignas(64) float sums[kMaxTokens * kLanes];
    tile.sums = sums;
    for (int64_t block = part.block_begin, step = 0; block < part.block_end; block += step) {
        step = kernels.several_blocks ? blocks_at_once(count, part.block_end - block) : 1;
        tile.values = static_cast<const char*>(w.values) + value_index(s, block, 0, 0) * core::itemsize(kType);
        tile.codes = w.codes + block * s.spans * s.span_words * s.reach;
        for (int64_t i = 0; i < tiles; ++i) {
            const int64_t begin = i * count / tiles, tokens = (i + 1) * count / tiles - begin;
            tile.x = x + begin * tile.x_stride;
            kernels.choose(tokens, step)(tile);
            for (int64_t b = 0; b < step; ++b) {
                store_sums<kType>(call, token + begin, (block + b) * kLanes, tokens, sums + b * tokens * kLanes);
            }
        }
    }
}

// kRaw: the element type of x is what the kernel reads.
template <core::DType kType, bool kRaw, class Input>
static void run_part(const LinearCall& call, const InterleavedWeight& w, const InterleavedPart& part,
                     const KernelSet<Input>& kernels, Input* panel) {
    const InterleavedShape& s = w.shape;
    int32_t bases[32];
    for (int64_t step = 0; step < s.span_steps; ++step) {
        bases[step] = 0;
        for (int64_t i = 0; i < s.width; ++i) {  // width 2: one base in each half
            bases[step] |= static_cast<int32_t>((step * s.width + i) / s.n * s.m) << (16 * i);
        }
    }
    Tile<Input> tile{};
    tile.shape = &s;
    tile.bases = bases;
    const bool direct = kRaw && call.x_column_stride == 1 && s.cols % s.reach == 0 && s.span == s.reach;
    const int64_t chunk = chunk_tokens(s);
    for (int64_t token = part.token_begin; token < part.token_end; token += chunk) {
        const int64_t count = part.token_end - token < chunk ? part.token_end - token : chunk;
        if (direct) {
            tile.x = static_cast<const Input*>(call.x) + token * call.x_token_stride;
            tile.x_stride = call.x_token_stride;
        } else {
            tile.x = panel;
            tile.x_stride = panel_stride(s);
            for (int64_t t = 0; t < count; ++t) {
                pack_row<kType>(call, token + t, tile.x_stride, panel + t * tile.x_stride);
            }
        }
        run_chunk<kType, Input>(call, w, token, count, part, kernels, tile);
    }
}

}  // namespace sparsecore::cpu
