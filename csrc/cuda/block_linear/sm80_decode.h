// Block-sparse linear layer for few tokens (sm_80 and later).
//
// Floor: the bytes of the kept blocks over the memory's bandwidth, 2 * density bytes a dense element (64x64: 4 more bytes of index for 8192 of
// values), since every weight meets at most 16 tokens. Each is read once, by one lane, 16 bytes at a time. A block of threads has
// up to 32 rows of one block row and its warps take every kFewWarps-th block there: 8192 rows give 256 thread blocks of 8
// warps, each with 4 wide loads a lane under way, which is more than latency times bandwidth (H200: 26 KB an SM). Block rows
// start by length, the longest first.
//
// A lane loads 8 consecutive columns of rows g and g + 8, and the same columns of x of token g. mma's inner index may be renumbered as
// long as A and B agree: columns 8t + 4h, +1 stand at 2t, +1 and columns 8t + 4h + 2, +3 at 2t + 8, +9 of product h.
#pragma once

#include "cuda/block_linear/place.h"
#include "cuda/common/decode_sums.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda::block {

constexpr int kDecodeRowTiles = 2, kDecodeRows = kDecodeRowTiles * kRowTile;
constexpr int kDecodeColumns = 32;

// Rows of a block that one block of threads takes, and how many such parts a block has.
SC_HOST_DEVICE int decode_rows(int height) { return height < kDecodeRows ? height : kDecodeRows; }

// Adds 32 columns, of which this lane has 8 from 8 * unit on, of the block at `values`; `row`: the first one within the block.
template <class T, int kTokenTiles>
SC_DEVICE void multiply_columns(const BlockArgs& a, const std::uint16_t* values, int row, int unit, std::int64_t column,
                                std::int64_t token, float (&sums)[kDecodeRowTiles][kTokenTiles][4]) {
    const int g = static_cast<int>(thread_x() % kWarpSize) / 4;
    const bool inside = unit * kUnit < a.width;  // blocks of 16 columns fill half a product
    Words4 w[kDecodeRowTiles][2], x[kTokenTiles];
SC_UNROLL
    for (int m = 0; m < kDecodeRowTiles; ++m) {
SC_UNROLL
        for (int lower = 0; lower < 2; ++lower) {
            const int y = row + m * kRowTile + lower * 8 + g;
            const bool kept = inside && y < a.height;
            w[m][lower] = kept ? *reinterpret_cast<const Words4*>(values + unit_place(a.height, a.width, y, unit)) : Words4{};
        }
    }
SC_UNROLL
    for (int n = 0; n < kTokenTiles; ++n) {
        x[n] = inside ? load_unit(a, token + n * kTokenTile + g, column + unit * kUnit) : Words4{};
    }
SC_UNROLL
    for (int half = 0; half < 4; half += 2) {
SC_UNROLL
        for (int m = 0; m < kDecodeRowTiles; ++m) {
            const std::uint32_t fragment[4] = {w[m][0].word[half], w[m][1].word[half], w[m][0].word[half + 1],
                                               w[m][1].word[half + 1]};
SC_UNROLL
            for (int n = 0; n < kTokenTiles; ++n) {
                multiply<T>(sums[m][n], fragment, {x[n].word[half], x[n].word[half + 1]});
            }
        }
    }
}

// Grid: x = block rows of all bands (the last may be none) * parts of a block, y = any number of token blocks (the rest is looped
// over). Block: kFewThreads.
template <class T, int kTokenTiles>
SC_GLOBAL void SC_BOUNDS(kFewThreads, 2) sm80_decode(BlockArgs a) {
    auto& shared = shared_memory<DecodeSums<kDecodeRowTiles, kTokenTiles>>();
    const int warp = static_cast<int>(thread_x() / kWarpSize), t = static_cast<int>(thread_x() % 4);
    constexpr int kTokens = kTokenTiles * kTokenTile;
    const int rows = decode_rows(a.height), parts = a.height / rows;
    const std::int64_t block_row = a.band_rows[block_x() / static_cast<unsigned>(parts)];
    const int row = static_cast<int>(block_x() % static_cast<unsigned>(parts)) * rows;
    if (block_row < 0) return;
    for (std::int64_t token = block_y() * kTokens; token < a.tokens; token += grid_dim_y() * kTokens) {
        float sums[kDecodeRowTiles][kTokenTiles][4] = {};
        for (std::int64_t b = a.row_offsets[block_row] + warp; b < a.row_offsets[block_row + 1]; b += kFewWarps) {
            const std::uint16_t* values = a.values + b * a.height * a.width;
            const std::int64_t column = static_cast<std::int64_t>(a.columns[b]) * a.width;
            for (int first = 0; first < a.width; first += kDecodeColumns) {
                multiply_columns<T, kTokenTiles>(a, values, row, first / kUnit + t, column, token, sums);
            }
        }
        put_sums(shared, sums);
        for_sums(shared, [&](int own_row, int own_token, float sum) {
            const std::int64_t out_row = block_row * a.height + row + own_row;
            if (own_row >= rows || out_row >= a.rows || token + own_token >= a.tokens) return;
            store_result<T>(a, token + own_token, out_row, sum);
        });
    }
}

}  // namespace sparsecore::cuda::block
