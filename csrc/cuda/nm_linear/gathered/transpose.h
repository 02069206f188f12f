// x transposed: a column's tokens lie behind each other, so that a gathered column is one piece of memory.
//
// Floor: reading and writing x once; 62 us for 8192 x 8192 elements of 16 bits at the 4.3 TB/s of an H200, of which the writing may stay in
// L2. A block has a tile of 64 x 64, 8 KB, of which 16 are under way on a multiprocessor, ten times what its share of the latency needs;
// `ldmatrix` transposes it: rows are given in such an order that a lane holds 8 tokens of one column.
#pragma once

#include "cuda/nm_linear/activations.h"
#include "cuda/nm_linear/gathered/args.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda {

constexpr int kTransposedTokens = 64, kTransposedColumns = 64, kTransposeThreads = 128;

struct TransposeShared {
    alignas(128) std::uint16_t x[kTransposedTokens][kTransposedColumns];
};

// Units of a token are exchanged so that the eight rows of a tile of ldmatrix, tokens 8i + 2j and 8i + 2j + 1 for i = 0 to 3, meet no bank
// twice.
SC_DEVICE int transposed_unit(int token, int unit) { return unit ^ (token / 8 % 4 * 2 + token % 2); }

// Grid: x = tiles of 64 columns, y = any number of tiles of 64 tokens (the rest is looped over). Block: kTransposeThreads.
template <int kThreads>
SC_GLOBAL void SC_BOUNDS(kThreads, 16) transpose_tokens(GatheredArgs a) {
    constexpr int kUnits = kTransposedColumns / kUnit, kParts = kTransposedTokens / 32;
    auto& shared = shared_memory<TransposeShared>();
    const int thread = static_cast<int>(thread_x()), warp = thread / kWarpSize, lane = thread % kWarpSize;
    const std::int64_t first_column = static_cast<std::int64_t>(block_x()) * kTransposedColumns;
    for (std::int64_t block = block_y(); block * kTransposedTokens < a.tokens; block += grid_dim_y()) {
        const std::int64_t first_token = block * kTransposedTokens;
        for (int i = thread; i < kTransposedTokens * kUnits; i += kThreads) {
            const int token = i / kUnits, unit = i % kUnits;
            fetch_unit(a, &shared.x[token][transposed_unit(token, unit) * kUnit], first_token + token, first_column + unit * kUnit);
        }
        commit_copies();
        wait_copies<0>();
        block_barrier();
        for (int i = warp; i < kUnits * kParts; i += kThreads / kWarpSize) {  // 8 columns of 32 tokens
            const int unit = i / kParts, part = i % kParts * 32;
            const int row = part + lane % 8 / 2 * 8 + lane / 8 * 2 + lane % 2;
            Words4 tokens;
            load_matrix_x4_transposed(tokens.word, &shared.x[row][transposed_unit(row, unit) * kUnit]);
            const std::int64_t column = first_column + unit * kUnit + lane / 4, token = first_token + part + lane % 4 * kUnit;
            // The last unit of a column ends with zeros: fetch_unit has filled up the tile.
            if (column < a.cols && token < a.tokens) *reinterpret_cast<Words4*>(a.columns + column * a.column_tokens + token) = tokens;
        }
        block_barrier();
    }
}

}  // namespace sparsecore::cuda
