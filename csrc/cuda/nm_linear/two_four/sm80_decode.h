// 2:4 linear layer for few tokens (sm_80 and later): out[t, r] = act(sum over kept j of value[r, j] x[t, column(r, j)] + bias[r]).
//
// Bound by the bytes of the weight, which are read once, each by one lane, 16 consecutive ones at a time. A block has 16 rows; its
// warps take every kDecodeWarps-th tile of 64 columns and multiply it with mma.sp for 8 tokens at once; their sums are
// added in a fixed order, so the result does not depend on scheduling.
#pragma once

#include "cuda/common/activation.h"
#include "cuda/common/element.h"
#include "cuda/nm_linear/two_four/fragments.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda {

constexpr int kDecodeWarps = 8, kDecodeThreads = kDecodeWarps * kWarpSize;
constexpr int kDecodeTokens = 8;  // columns of fragment B

template <int kTokenTiles>
struct DecodeShared {
    float sums[kDecodeWarps][kTokenTiles][kTileRows][kDecodeTokens];
};

template <class T, int kTokenTiles>
SC_DEVICE void multiply_tile(const TwoFourArgs& a, std::int64_t row_tile, std::int64_t tile, std::int64_t token,
                             float (&sums)[kTokenTiles][4]) {
    const int lane = static_cast<int>(thread_x() % kWarpSize);
    const std::int64_t place = row_tile * a.column_tiles + tile;
    const auto* values = reinterpret_cast<const Words4*>(static_cast<const unsigned char*>(a.values) + place * kTileValueBytes);
    const Words4 halves[2] = {values[lane], values[kWarpSize + lane]};
    const std::uint32_t metadata = a.metadata[place * kTileMetadataWords + lane];
SC_UNROLL
    for (int half = 0; half < 2; ++half) {
SC_UNROLL
        for (int i = 0; i < kTokenTiles; ++i) {
            const std::int64_t column = tile * kTileColumns + half * 32 + lane % 4 * 2;
            std::uint32_t b[4];
SC_UNROLL
            for (int r = 0; r < 4; ++r) b[r] = load_x_pair(a, token + i * kDecodeTokens + lane / 4, column + 8 * r);
            if (half == 0) {
                multiply_sparse<T, 0>(sums[i], halves[0].word, b, metadata);
            } else {
                multiply_sparse<T, 1>(sums[i], halves[1].word, b, metadata);
            }
        }
    }
}

// Grid: x = row tiles, y = any number of token blocks (the rest is looped over). Block: kDecodeThreads.
template <class T, int kTokenTiles>
SC_GLOBAL void SC_BOUNDS(kDecodeThreads, 2) sm80_two_four_decode(TwoFourArgs a) {
    auto& shared = shared_memory<DecodeShared<kTokenTiles>>();
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
    constexpr int kTokens = kTokenTiles * kDecodeTokens;
    const std::int64_t row_tile = block_x();
    for (std::int64_t token = block_y() * kTokens; token < a.tokens; token += grid_dim_y() * kTokens) {
        float sums[kTokenTiles][4] = {};
        for (std::int64_t tile = warp; tile < a.column_tiles; tile += kDecodeWarps) {
            multiply_tile<T, kTokenTiles>(a, row_tile, tile, token, sums);
        }
SC_UNROLL
        for (int i = 0; i < kTokenTiles; ++i) {
SC_UNROLL
            for (int r = 0; r < 4; ++r) shared.sums[warp][i][lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2] = sums[i][r];
        }
        block_barrier();
        for (int i = static_cast<int>(thread_x()); i < kTokens * kTileRows; i += kDecodeThreads) {
            const std::int64_t row = row_tile * kTileRows + i % kTileRows, t = token + i / kTileRows;
            if (row >= a.rows || t >= a.tokens) continue;
            const int token_tile = i / kTileRows / kDecodeTokens, token_column = i / kTileRows % kDecodeTokens;
            float sum = 0.0f;
            for (int w = 0; w < kDecodeWarps; ++w) sum += shared.sums[w][token_tile][i % kTileRows][token_column];
            if (a.bias != nullptr) sum += to_float(static_cast<const T*>(a.bias)[row * a.bias_stride]);
            T* out = static_cast<T*>(a.out) + t * a.out_token_stride + row * a.out_row_stride;
            store(out, cuda::activate(sum, a.activation));
        }
        block_barrier();
    }
}

}  // namespace sparsecore::cuda
