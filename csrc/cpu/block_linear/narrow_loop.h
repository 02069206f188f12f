// Blocks of fewer than 8 rows, in the stored order [count][r][c], for every instruction set: a register tile of up to 4
// rows x kLanes / 4 vectors of tokens, in which each weight is broadcast and meets activations laid out [cols][tokens]. Few
// tokens would leave those vectors empty; where c fills whole vectors they are multiplied along the inputs instead.
// Included by kernel files only; Math is that of band_loop.h with fp32 activations, and
//
//       static Vector load_values(const void* values, int64_t index);  // of the weight's type
//       static Vector load(const float*);
//       static Vector multiply_add(Vector sum, Vector a, Vector b);
#pragma once

#include "cpu/block_linear/band_loop.h"

namespace sparsecore::cpu {

struct NarrowTile {
    const float* values;  // of the first row of the tile
    const int32_t* columns;
    int64_t count, steps;  // blocks, inputs of each
    int64_t block_values;  // from block to block
    const float* x;        // [cols][kVectors * kLanes]
    float* sums;           // [kRows][kVectors * kLanes]
};

// Each row has two sums where it is alone, so that no addition waits for the one before.
template <class Math, int kRows, int kVectors>
static void multiply_rows(const NarrowTile& tile) {
    constexpr int kSets = kRows == 1 ? 2 : 1;
    constexpr int64_t kWidth = kVectors * Math::kLanes;
    typename Math::Vector sum[kSets][kRows][kVectors];
#pragma GCC unroll 2
    for (int s = 0; s < kSets; ++s) {
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[s][i][v] = Math::zero();
        }
    }
    const auto step = [&](int set, const float* value, const float* x) {
        typename Math::Vector inputs[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) inputs[v] = Math::load(x + v * Math::kLanes);
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) {
            const char* word = reinterpret_cast<const char*>(value + i * tile.steps);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[set][i][v] = Math::multiply_add(sum[set][i][v], inputs[v], word);
        }
    };
    const float* values = tile.values;
    for (int64_t block = 0; block < tile.count; ++block, values += tile.block_values) {
        const float* x = tile.x + tile.columns[block] * tile.steps * kWidth;
        int64_t k = 0;
        for (; k + kSets <= tile.steps; k += kSets, x += kSets * kWidth) {
#pragma GCC unroll 2
            for (int s = 0; s < kSets; ++s) step(s, values + k + s, x + s * kWidth);
        }
        if (kSets == 2 && k < tile.steps) step(0, values + k, x);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            typename Math::Vector total = sum[0][i][v];
            if constexpr (kSets == 2) total = Math::add(total, sum[1][i][v]);
            Math::keep(tile.sums + i * kWidth + v * Math::kLanes, total);
        }
    }
}

// Sums of up to kLanes rows that follow each other, [rows][width], on their way to the outputs.
template <class Math>
struct RowSums {
    float* sums;
    int64_t width, first, rows;  // first: output row of the first

    // 16 (8) rows x tokens become tokens x rows.
    void flush(const LinearCall& call, int64_t token, int64_t tokens) {
        for (int64_t t = 0; t < tokens; t += Math::kLanes) {
            typename Math::Vector block[Math::kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < Math::kLanes; ++i) block[i] = Math::load(sums + i * width + t);
            Math::transpose(block);
            alignas(64) float line[Math::kLanes];
            for (int i = 0; i < Math::kLanes && t + i < tokens; ++i) {
                Math::keep(line, block[i]);
                Math::store(call, token + t + i, first, rows, line);
            }
        }
        first += rows;
        rows = 0;
    }
};

template <class Math, int kVectors>
static void multiply_block_row(NarrowTile tile, int64_t rows) {
    constexpr int64_t kWidth = kVectors * Math::kLanes;
    const auto step = [&](auto run, int64_t count) {
        run(tile);
        tile.values += count * tile.steps;
        tile.sums += count * kWidth;
        rows -= count;
    };
    while (rows >= 4) step(multiply_rows<Math, 4, kVectors>, 4);
    if (rows >= 2) step(multiply_rows<Math, 2, kVectors>, 2);
    if (rows >= 1) step(multiply_rows<Math, 1, kVectors>, 1);
}

// The values of blocks begin .. end - 1 as fp32: where they lie, or converted.
template <class Math>
static const float* float_values(const BlockWeight& w, int64_t begin, int64_t end, float* scratch) {
    const int64_t first = begin * w.block_rows * w.block_cols, count = (end - begin) * w.block_rows * w.block_cols;
    if (Math::kRaw) return static_cast<const float*>(w.values) + first;
    for (int64_t i = 0; i < count; i += Math::kLanes) Math::keep(scratch + i, Math::load_values(w.values, first + i));
    return scratch;
}

// One pass over the weight for up to kVectors * kLanes tokens.
template <class Math, int kVectors>
static void run_token_lanes(const LinearCall& call, const BlockWeight& w, const BlockPart& part,
                            const NarrowScratch& scratch, int64_t token, int64_t tokens) {
    constexpr int64_t kWidth = kVectors * Math::kLanes;
    const int64_t words = block_column_count(w) * w.block_cols;
    for (int64_t t = 0; t < kWidth; t += Math::kLanes) {
        const int64_t left = tokens - t < 0 ? 0 : tokens - t;
        pack_columns<Math>(call, token + t, left < Math::kLanes ? left : Math::kLanes, words, scratch.x + t, kWidth);
    }
    RowSums<Math> out{scratch.sums, kWidth, part.row_begin * w.block_rows, 0};
    for (int64_t block_row = part.row_begin; block_row < part.row_end; ++block_row) {
        const int64_t left = w.rows - block_row * w.block_rows, rows = left < w.block_rows ? left : w.block_rows;
        if (out.rows + rows > Math::kLanes) out.flush(call, token, tokens);
        const int64_t begin = w.row_offsets[block_row], end = w.row_offsets[block_row + 1];
        const float* values = float_values<Math>(w, begin, end, scratch.values);
        const NarrowTile tile{values, w.columns + begin, end - begin, w.block_cols, w.block_rows * w.block_cols,
                              scratch.x, scratch.sums + out.rows * kWidth};
        multiply_block_row<Math, kVectors>(tile, rows);
        out.rows += rows;
    }
    out.flush(call, token, tokens);
}

// The sum of one row for each token, still spread over the lanes of the inputs.
template <class Math, int kTokens>
static void multiply_row(const BlockWeight& w, int64_t row, const float* x, int64_t words,
                         typename Math::Vector (&sum)[kTokens]) {
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) sum[t] = Math::zero();
    const int64_t block_row = row / w.block_rows;
    for (int64_t block = w.row_offsets[block_row]; block < w.row_offsets[block_row + 1]; ++block) {
        const int64_t values = (block * w.block_rows + row % w.block_rows) * w.block_cols;
        const float* inputs = x + w.columns[block] * w.block_cols;
        for (int64_t k = 0; k < w.block_cols; k += Math::kLanes) {
            const typename Math::Vector weights = Math::load_values(w.values, values + k);
#pragma GCC unroll 4
            for (int t = 0; t < kTokens; ++t) {
                sum[t] = Math::multiply_add(sum[t], weights, Math::load(inputs + t * words + k));
            }
        }
    }
}

// The lanes of each of kLanes vectors are added: rows become columns, and those are added in pairs.
template <class Math>
static typename Math::Vector add_lanes(const float* rows) {
    typename Math::Vector block[Math::kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < Math::kLanes; ++i) block[i] = Math::load(rows + i * Math::kLanes);
    Math::transpose(block);
#pragma GCC unroll 4
    for (int half = Math::kLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < half; ++i) block[i] = Math::add(block[i], block[i + half]);
    }
    return block[0];
}

// Few tokens: whole vectors of a row's inputs meet those of each token, and kLanes rows are finished together.
template <class Math, int kTokens>
static void run_input_lanes(const LinearCall& call, const BlockWeight& w, const BlockPart& part,
                            const NarrowScratch& scratch) {
    const int64_t words = block_column_count(w) * w.block_cols, last_row = part.row_end * w.block_rows;
    const int64_t end_row = last_row < w.rows ? last_row : w.rows;
    for (int64_t t = 0; t < kTokens; ++t) {
        pack_columns<Math>(call, part.token_begin + t, 1, words, scratch.x + t * words, 1);
    }
    for (int64_t row = part.row_begin * w.block_rows; row < end_row; row += Math::kLanes) {
        const int64_t rows = end_row - row < Math::kLanes ? end_row - row : Math::kLanes;
        alignas(64) float lanes[kTokens][Math::kLanes * Math::kLanes] = {};
        for (int64_t i = 0; i < rows; ++i) {
            typename Math::Vector sum[kTokens];
            multiply_row<Math, kTokens>(w, row + i, scratch.x, words, sum);
            for (int t = 0; t < kTokens; ++t) Math::keep(lanes[t] + i * Math::kLanes, sum[t]);
        }
        for (int t = 0; t < kTokens; ++t) {
            alignas(64) float outputs[Math::kLanes];
            Math::keep(outputs, add_lanes<Math>(lanes[t]));
            Math::store(call, part.token_begin + t, row, rows, outputs);
        }
    }
}

template <class Math, int kVectors>
static void run_vectors(const LinearCall& call, const BlockWeight& w, const BlockPart& part, const NarrowScratch& scratch,
                        int64_t token, int64_t tokens) {
    if constexpr (kVectors > 1) {
        if (tokens <= (kVectors - 1) * Math::kLanes) {
            return run_vectors<Math, kVectors - 1>(call, w, part, scratch, token, tokens);
        }
    }
    run_token_lanes<Math, kVectors>(call, w, part, scratch, token, tokens);
}

template <class Math>
static void run_narrow(const LinearCall& call, const BlockWeight& w, const BlockPart& part, const NarrowScratch& scratch) {
    const int64_t tokens = part.token_end - part.token_begin;
    if (w.block_cols % Math::kLanes == 0) {
        switch (tokens) {
            case 1: return run_input_lanes<Math, 1>(call, w, part, scratch);
            case 2: return run_input_lanes<Math, 2>(call, w, part, scratch);
            case 3: return run_input_lanes<Math, 3>(call, w, part, scratch);
            case 4: return run_input_lanes<Math, 4>(call, w, part, scratch);
            default: break;
        }
    }
    const int64_t most = narrow_vectors(w, Math::kLanes) * Math::kLanes, tiles = ceil_div(tokens, most);
    for (int64_t i = 0; i < tiles; ++i) {
        const int64_t begin = i * tokens / tiles, count = (i + 1) * tokens / tiles - begin;
        run_vectors<Math, Math::kLanes / 4>(call, w, part, scratch, part.token_begin + begin, count);
    }
}

}  // namespace sparsecore::cpu
