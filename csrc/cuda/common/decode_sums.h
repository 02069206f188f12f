// The end of a kernel for few tokens: its warps' sums added in a fixed order, so that the result does not depend on scheduling.
#pragma once

#include "cuda/common/linear_io.h"

namespace sparsecore::cuda {

constexpr int kFewWarps = 8, kFewThreads = kFewWarps * kWarpSize;
constexpr int kTokenTile = 8;  // columns of fragment D

// Sums of every warp of the block, for kRowTiles x kTokenTiles fragments D.
template <int kRowTiles, int kTokenTiles>
struct DecodeSums {
    static constexpr int kRows = kRowTiles * 16, kTokens = kTokenTiles * kTokenTile;
    float sum[kFewWarps][kTokens][kRows + 4];  // the padding keeps the lanes' stores in different banks
};

template <int kRowTiles, int kTokenTiles>
SC_DEVICE void put_sums(DecodeSums<kRowTiles, kTokenTiles>& shared, const float (&sums)[kRowTiles][kTokenTiles][4]) {
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
SC_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
SC_UNROLL
        for (int n = 0; n < kTokenTiles; ++n) {
SC_UNROLL
            for (int i = 0; i < 4; ++i) {
                shared.sum[warp][n * kTokenTile + lane % 4 * 2 + i % 2][m * 16 + i / 2 * 8 + lane / 4] = sums[m][n][i];
            }
        }
    }
}

// Calls body(own row, own token, sum) for every result of the block, by all its threads; a block barrier on either side.
template <int kRowTiles, int kTokenTiles, class Body>
SC_DEVICE void for_sums(const DecodeSums<kRowTiles, kTokenTiles>& shared, Body&& body) {
    using Sums = DecodeSums<kRowTiles, kTokenTiles>;
    block_barrier();
    for (int i = static_cast<int>(thread_x()); i < Sums::kRows * Sums::kTokens; i += kFewThreads) {
        const int row = i % Sums::kRows, token = i / Sums::kRows;
        float sum = 0.0f;
        for (int w = 0; w < kFewWarps; ++w) sum += shared.sum[w][token][row];
        body(row, token, sum);
    }
    block_barrier();
}

}  // namespace sparsecore::cuda
