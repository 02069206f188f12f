// What dispatch.cpp calls: tokens [token_begin, token_end) of block rows [row_begin, row_end).
#pragma once

#include "cpu/block_linear/bands.h"

namespace sparsecore::cpu {

struct BlockPart {
    int64_t token_begin, token_end, row_begin, row_end;
};

// scratch: cols * kPortableTile floats.
void block_linear_portable(const LinearCall& call, const BlockWeight& weight, const BlockPart& part, float* scratch);

static inline int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

// The tokens that pass over the weight together: their activations stay in the second-level cache.
struct TokenGroups {
    int64_t tile;   // most tokens of one register tile
    int64_t group;  // most tokens of one pass
};

constexpr int64_t kPanelWords = 256 * 1024;  // of activations, at most, where one token has no more

static inline TokenGroups token_groups(int64_t words, int64_t tile) {
    constexpr int64_t kCacheWords = 128 * 1024;
    if (words * tile > kPanelWords) {
        const int64_t few = kPanelWords / words < 1 ? 1 : kPanelWords / words;
        return {few, few};
    }
    const int64_t tiles = words == 0 ? 1 : kCacheWords / (words * tile);
    return {tile, tile * (tiles < 1 ? 1 : tiles)};
}

// panel: kPanelWords, or block_column_count * block_cols if that is more, 32-bit words, and kBandSlack bytes.
using BandKernel = void (*)(const LinearCall& call, const BlockWeight& weight, const BlockPart& part, void* panel);
void block_bands_avx2(const LinearCall& call, const BlockWeight& weight, const BlockPart& part, void* panel);
void block_bands_avx512(const LinearCall& call, const BlockWeight& weight, const BlockPart& part, void* panel);
void block_bands_avx512_bf16(const LinearCall& call, const BlockWeight& weight, const BlockPart& part, void* panel);

// Vectors of tokens that pass over a narrow weight together, at most 64 tokens on AVX-512 and 16 on AVX2 (whose registers
// hold no more sums): their activations stay in the second-level cache.
static inline int64_t narrow_vectors(const BlockWeight& w, int64_t lanes) {
    constexpr int64_t kCacheWords = 128 * 1024;
    const int64_t words = block_column_count(w) * w.block_cols * lanes, most = lanes == 16 ? 4 : 2;
    const int64_t vectors = words == 0 ? most : kCacheWords / words;
    return vectors < 1 ? 1 : vectors > most ? most : vectors;
}

// All aligned to 64 bytes, with room for one vector more.
struct NarrowScratch {
    float* x;       // [padded cols][narrow_vectors * lanes], and at least 4 tokens
    float* values;  // what one block row keeps; not used for fp32
    float* sums;    // [lanes][narrow_vectors * lanes]
};

using NarrowKernel = void (*)(const LinearCall& call, const BlockWeight& weight, const BlockPart& part,
                              const NarrowScratch& scratch);
void block_narrow_avx2(const LinearCall& call, const BlockWeight& weight, const BlockPart& part,
                       const NarrowScratch& scratch);
void block_narrow_avx512(const LinearCall& call, const BlockWeight& weight, const BlockPart& part,
                         const NarrowScratch& scratch);

}  // namespace sparsecore::cpu
