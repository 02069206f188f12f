// The bands kernel of every instruction set: a register tile of up to 16 tokens x 2 vectors of outputs, and the loops
// around it. Included by kernel files only; everything is static and instantiated with a type of that file:
//
//   struct Math {
//       using Vector;                            // kLanes fp32 sums, one an output
//       static constexpr int kLanes, kTokens[2];  // most tokens of a tile of one vector and of two
//       static constexpr int kInputs;             // 32-bit words of activations that a step consumes
//       static constexpr int64_t kWeightBytes;    // of one output in a step
//       static constexpr int64_t kWordInputs;     // inputs in a word: 1 as fp32, 2 as bf16
//       static constexpr bool kRaw;               // these words are what x holds
//       static Vector zero();
//       static void load(const char* step, Vector (&weights)[kInputs]);
//       static Vector multiply_add(Vector sum, Vector weight, const char* word);  // the word is broadcast
//       static void keep(float* to, Vector);
//       static Vector load_words(const LinearCall&, int64_t token, int64_t word);  // zero past the last input
//       static void transpose(Vector (&)[kLanes]);
//       static void store(const LinearCall&, int64_t token, int64_t row, int64_t rows, const float* sums);
//   };
#pragma once

#include "cpu/block_linear/kernels.h"

namespace sparsecore::cpu {

// A tile of so many tokens reads weights too slowly for the processor to run ahead by itself: it asks for those that are
// at least so many bytes ahead.
constexpr int kAheadTokens = 5;
constexpr int64_t kLeastAhead = 8192;

// An address that is only prefetched may lie past the end.
static inline const char* offset(const char* address, int64_t bytes) {
    return reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(address) + static_cast<uintptr_t>(bytes));
}

struct BandTile {
    const char* values;
    const int32_t* columns;
    int64_t count;       // kept blocks
    int64_t steps;       // of a block
    int64_t step_bytes;  // of weights
    const char* x;       // [words][tokens]: what a step needs lies in one or two cache lines
    const char* ahead;   // weights that come next, asked for a piece at every step
    int64_t ahead_step;  // bytes
    float* sums;         // [tokens][kVectors * kLanes]
};

template <class Math, int kTokens, int kVectors>
static void multiply(const BandTile& tile) {
    constexpr int64_t kWordBytes = 4 * kTokens;
    typename Math::Vector sum[kTokens][kVectors];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[t][v] = Math::zero();
    }
    const int64_t step_bytes = tile.step_bytes, block_bytes = tile.steps * Math::kInputs * kWordBytes;
    const char *values = tile.values, *ahead = tile.ahead;
    for (const int32_t *column = tile.columns, *end = column + tile.count; column != end; ++column) {
        const char* x = tile.x + *column * block_bytes;
        int64_t step = tile.steps;
        do {
            typename Math::Vector weights[kVectors][Math::kInputs];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) {
                Math::load(values + v * Math::kLanes * Math::kWeightBytes, weights[v]);
                if (kTokens >= kAheadTokens) __builtin_prefetch(ahead + v * 64, 0, 3);
            }
#pragma GCC unroll 2
            for (int i = 0; i < Math::kInputs; ++i) {
#pragma GCC unroll 16
                for (int t = 0; t < kTokens; ++t) {
                    const char* word = x + i * kWordBytes + 4 * t;
#pragma GCC unroll 2
                    for (int v = 0; v < kVectors; ++v) sum[t][v] = Math::multiply_add(sum[t][v], weights[v][i], word);
                }
            }
            values += step_bytes;
            ahead += tile.ahead_step;
            x += Math::kInputs * kWordBytes;
        } while (--step != 0);
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) Math::keep(tile.sums + (t * kVectors + v) * Math::kLanes, sum[t][v]);
    }
}

template <class Math, int kVectors, int kTokens>
static void multiply_tokens(const BandTile& tile, int64_t tokens) {
    if (tokens == kTokens) return multiply<Math, kTokens, kVectors>(tile);
    if constexpr (kTokens > 1) multiply_tokens<Math, kVectors, kTokens - 1>(tile, tokens);
}

// Words of up to kLanes tokens, [words][stride]. A vector is stored whole: what it holds past the last token is zero, or
// overwritten by the next word.
template <class Math>
static void pack_columns(const LinearCall& call, int64_t token, int64_t tokens, int64_t words, float* panel,
                         int64_t stride) {
    if (stride == 1) {
        for (int64_t k = 0; k < words; k += Math::kLanes) Math::keep(panel + k, Math::load_words(call, token, k));
        return;
    }
    for (int64_t k = 0; k < words; k += Math::kLanes) {
        typename Math::Vector block[Math::kLanes];
#pragma GCC unroll 16
        for (int t = 0; t < Math::kLanes; ++t) {
            block[t] = t < tokens ? Math::load_words(call, token + t, k) : Math::zero();
        }
        Math::transpose(block);
        for (int i = 0; i < Math::kLanes && k + i < words; ++i) Math::keep(panel + (k + i) * stride, block[i]);
    }
}

// The tokens of one pass over the weight, cut into tiles of nearly equal size.
template <class Math>
struct Group {
    const LinearCall& call;
    const BlockWeight& weight;
    int64_t token, count, tiles, words;
    bool direct;  // one token is read where x lies
    float* panel;

    int64_t tile_begin(int64_t tile) const { return tile * count / tiles; }

    void pack() const {
        for (int64_t i = 0; i < tiles; ++i) {
            const int64_t begin = tile_begin(i), tokens = tile_begin(i + 1) - begin;
            if (tokens == 1 && direct) continue;
            pack_columns<Math>(call, token + begin, tokens, words, panel + begin * words, tokens);
        }
    }

    // The lines of the outputs come while they are computed.
    void fetch_outputs(int64_t first, int64_t tokens, int64_t row, int64_t rows) const {
        if (call.out_row_stride != 1) return;
        const int64_t size = core::itemsize(call.dtype);
        for (int64_t t = 0; t < tokens; ++t) {
            const char* out = static_cast<const char*>(call.out) + ((first + t) * call.out_token_stride + row) * size;
            for (int64_t i = 0; i < rows * size; i += 64) __builtin_prefetch(out + i, 1, 2);
        }
    }

    // `rows` of the outputs of a band, from output `row` on.
    void run(BandTile tile, int64_t row, int64_t rows) const {
        alignas(64) float sums[16 * 2 * Math::kLanes];
        tile.sums = sums;
        // Each of a few tiles asks for its share of the next band, so that the memory is always busy. Many tiles do not
        // wait for memory.
        const int64_t band_bytes = tile.count * tile.steps * tile.step_bytes;
        const int64_t ahead_bytes = band_bytes < kLeastAhead ? kLeastAhead : band_bytes;
        const bool waits = tiles <= 3;
        tile.ahead_step = waits ? tile.step_bytes / tiles : 0;
        for (int64_t i = 0; i < tiles; ++i) {
            const int64_t begin = tile_begin(i), tokens = tile_begin(i + 1) - begin;
            const int64_t vectors = rows > Math::kLanes ? 2 : 1;
            tile.ahead = waits ? offset(tile.values, ahead_bytes + i * band_bytes / tiles)
                               : reinterpret_cast<const char*>(sums);
            fetch_outputs(token + begin, tokens, row, rows);
            const int64_t x_place = (token + begin) * call.x_token_stride * core::itemsize(call.dtype);
            tile.x = direct && tokens == 1 ? static_cast<const char*>(call.x) + x_place
                                           : reinterpret_cast<const char*>(panel + begin * words);
            if (vectors == 2) {
                multiply_tokens<Math, 2, Math::kTokens[1]>(tile, tokens);
            } else {
                multiply_tokens<Math, 1, Math::kTokens[0]>(tile, tokens);
            }
            for (int64_t t = 0; t < tokens; ++t) {
                Math::store(call, token + begin + t, row, rows, sums + t * vectors * Math::kLanes);
            }
        }
    }
};

template <class Math>
static void run_block_row(const Group<Math>& group, int64_t block_row) {
    const BlockWeight& w = group.weight;
    const int64_t begin = w.row_offsets[block_row], end = w.row_offsets[block_row + 1];
    const int64_t first_row = block_row * w.block_rows;
    const int64_t left = w.rows - first_row, rows = left < w.block_rows ? left : w.block_rows;
    BandTile tile{};
    tile.columns = w.columns + begin;
    tile.count = end - begin;
    tile.steps = w.block_cols / (Math::kInputs * Math::kWordInputs);
    for (int64_t first = 0; first < rows; first += kBandRows) {
        const int64_t height = band_height(w.block_rows, first);
        const int64_t band_end = first + height < rows ? first + height : rows;
        tile.step_bytes = height * Math::kWeightBytes;
        const char* values = static_cast<const char*>(w.values) +
                             band_index(w, begin, end, first) * core::itemsize(w.dtype);
        for (int64_t row = first; row < band_end; row += 2 * Math::kLanes) {
            const int64_t here = band_end - row < 2 * Math::kLanes ? band_end - row : 2 * Math::kLanes;
            tile.values = values + (row - first) * Math::kWeightBytes;
            group.run(tile, first_row + row, here);
        }
    }
}

template <class Math>
static void run_bands(const LinearCall& call, const BlockWeight& w, const BlockPart& part, void* panel) {
    const int64_t words = block_column_count(w) * w.block_cols / Math::kWordInputs;
    const TokenGroups most = token_groups(words, Math::kTokens[w.block_rows > Math::kLanes]);
    const int64_t tokens = part.token_end - part.token_begin, groups = ceil_div(tokens, most.group);
    for (int64_t i = 0; i < groups; ++i) {
        const int64_t begin = i * tokens / groups, count = (i + 1) * tokens / groups - begin;
        const Group<Math> group{call, w, part.token_begin + begin, count, ceil_div(count, most.tile), words,
                                Math::kRaw && call.x_column_stride == 1 && w.cols == words * Math::kWordInputs,
                                static_cast<float*>(panel)};
        group.pack();
        for (int64_t row = part.row_begin; row < part.row_end; ++row) run_block_row(group, row);
    }
}

}  // namespace sparsecore::cpu
