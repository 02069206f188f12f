// 2:4 linear layer for many tokens (sm_80 and later), by mma.sp on tiles that a ring of asynchronous copies brings.
//
// A block computes 128 rows x 128 tokens, a warp 32 x 64 of them, 64 columns of the weight at a time. Weights come in fragment
// order and are read from shared memory 16 bytes a lane; activations lie in rows of 128 bytes whose 16-byte units are
// exchanged by the row's number, so that loading fragments meets no bank twice.
#pragma once

#include "cuda/common/activation.h"
#include "cuda/common/element.h"
#include "cuda/nm_linear/activations.h"
#include "cuda/nm_linear/two_four/args.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda {

constexpr int kGemmRows = 128, kGemmTokens = 128, kGemmThreads = 256, kGemmStages = 3;
constexpr int kGemmRowTiles = kGemmRows / kTileRows;
constexpr int kWarpRowTiles = 2, kWarpTokenTiles = 8;  // of one warp: 32 rows, 64 tokens

struct alignas(128) GemmStage {
    unsigned char values[kGemmRowTiles][kTileValueBytes];
    std::uint32_t metadata[kGemmRowTiles][kTileMetadataWords];
    std::uint16_t x[kGemmTokens][kTileColumns];
};

union GemmShared {
    GemmStage stages[kGemmStages];
    std::uint16_t out[kGemmTokens][kGemmRows + kUnit];  // the padding keeps the lanes' stores in different banks
};

SC_DEVICE int exchanged_unit(int token, int unit) { return unit ^ (token % 8); }

// Weights of one column tile. Row tiles outside the weight repeat its last one; what they give is not stored.
SC_DEVICE void fetch_weights(const TwoFourArgs& a, GemmStage& stage, std::int64_t tile) {
    constexpr int kValueUnits = kTileValueBytes / 16, kMetadataUnits = kTileMetadataWords / 4;
    for (int i = static_cast<int>(thread_x()); i < kGemmRowTiles * (kValueUnits + kMetadataUnits); i += kGemmThreads) {
        const bool is_value = i < kGemmRowTiles * kValueUnits;
        const int own = is_value ? i : i - kGemmRowTiles * kValueUnits, units = is_value ? kValueUnits : kMetadataUnits;
        std::int64_t row_tile = static_cast<std::int64_t>(block_x()) * kGemmRowTiles + own / units;
        row_tile = row_tile < a.row_tiles ? row_tile : a.row_tiles - 1;
        const std::int64_t place = row_tile * a.column_tiles + tile;
        if (is_value) {
            const auto* from = static_cast<const unsigned char*>(a.values) + place * kTileValueBytes + own % units * 16;
            copy_async_16(&stage.values[own / units][own % units * 16], from, 16);
        } else {
            const std::uint32_t* from = a.metadata + place * kTileMetadataWords + own % units * 4;
            copy_async_16(&stage.metadata[own / units][own % units * 4], from, 16);
        }
    }
}

SC_DEVICE void fetch_x(const TwoFourArgs& a, GemmStage& stage, std::int64_t tile, std::int64_t first_token) {
    constexpr int kUnits = kTileColumns / kUnit;
    for (int i = static_cast<int>(thread_x()); i < kGemmTokens * kUnits; i += kGemmThreads) {
        const int own = i / kUnits, unit = i % kUnits;
        fetch_unit(a, &stage.x[own][exchanged_unit(own, unit) * kUnit], first_token + own, tile * kTileColumns + unit * kUnit);
    }
}

template <class T>
SC_DEVICE void multiply_stage(const GemmStage& stage, float (&sums)[kWarpRowTiles][kWarpTokenTiles][4]) {
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
    const int row_tile = warp / 2 * kWarpRowTiles, first_token = warp % 2 * kWarpTokenTiles * 8;
    std::uint32_t metadata[kWarpRowTiles];
SC_UNROLL
    for (int i = 0; i < kWarpRowTiles; ++i) metadata[i] = stage.metadata[row_tile + i][lane];
SC_UNROLL
    for (int half = 0; half < 2; ++half) {
        Words4 a[kWarpRowTiles];
SC_UNROLL
        for (int i = 0; i < kWarpRowTiles; ++i) {
            a[i] = reinterpret_cast<const Words4*>(stage.values[row_tile + i])[half * kWarpSize + lane];
        }
SC_UNROLL
        for (int j = 0; j < kWarpTokenTiles; ++j) {
            const int token = first_token + j * 8 + lane % 8;
            std::uint32_t b[4];
            load_matrix_x4(b, &stage.x[token][exchanged_unit(token, half * 4 + lane / 8) * kUnit]);
SC_UNROLL
            for (int i = 0; i < kWarpRowTiles; ++i) {
                if (half == 0) {
                    multiply_sparse<T, 0>(sums[i][j], a[i].word, b, metadata[i]);
                } else {
                    multiply_sparse<T, 1>(sums[i][j], a[i].word, b, metadata[i]);
                }
            }
        }
    }
}

// Bias and activation in fp32, one rounding, and the tile transposed in shared memory: results of a token lie together.
template <class T>
SC_DEVICE void stage_results(const TwoFourArgs& a, GemmShared& shared,
                             const float (&sums)[kWarpRowTiles][kWarpTokenTiles][4]) {
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
SC_UNROLL
    for (int i = 0; i < kWarpRowTiles; ++i) {
SC_UNROLL
        for (int lower = 0; lower < 2; ++lower) {
            const int own = (warp / 2 * kWarpRowTiles + i) * kTileRows + lower * 8 + lane / 4;
            const std::int64_t row = static_cast<std::int64_t>(block_x()) * kGemmRows + own;
            const bool biased = a.bias != nullptr && row < a.rows;
            const float bias = biased ? to_float(static_cast<const T*>(a.bias)[row * a.bias_stride]) : 0.0f;
SC_UNROLL
            for (int j = 0; j < kWarpTokenTiles; ++j) {
SC_UNROLL
                for (int right = 0; right < 2; ++right) {
                    const int token = (warp % 2 * kWarpTokenTiles + j) * 8 + lane % 4 * 2 + right;
                    const float sum = sums[i][j][lower * 2 + right] + bias;
                    store(reinterpret_cast<T*>(&shared.out[token][own]), cuda::activate(sum, a.activation));
                }
            }
        }
    }
}

// Grid: x = blocks of 128 rows, y = any number of blocks of 128 tokens (the rest is looped over). Block: kGemmThreads.
template <class T>
SC_GLOBAL void SC_BOUNDS(kGemmThreads, 1) sm80_two_four_gemm(TwoFourArgs a) {
    auto& shared = shared_memory<GemmShared>();
    const auto blocks = (a.tokens + kGemmTokens - 1) / kGemmTokens;
    for (std::int64_t block = block_y(); block < blocks; block += grid_dim_y()) {
        const std::int64_t first_token = block * kGemmTokens;
        const auto fetch = [&](std::int64_t tile) {
            if (tile < a.column_tiles) {
                GemmStage& stage = shared.stages[tile % kGemmStages];
                fetch_weights(a, stage, tile);
                fetch_x(a, stage, tile, first_token);
            }
            commit_copies();
        };
        float sums[kWarpRowTiles][kWarpTokenTiles][4] = {};
        for (int tile = 0; tile < kGemmStages - 1; ++tile) fetch(tile);
        for (std::int64_t tile = 0; tile < a.column_tiles; ++tile) {
            wait_copies<kGemmStages - 2>();
            block_barrier();  // this stage is there for all, and all are done with the one that is filled next
            fetch(tile + kGemmStages - 1);
            multiply_stage<T>(shared.stages[tile % kGemmStages], sums);
        }
        wait_copies<0>();
        block_barrier();
        stage_results<T>(a, shared, sums);
        block_barrier();
        write_pairs<kGemmTokens, kGemmRows, kGemmThreads>(a, &shared.out[0][0], static_cast<int>(thread_x()),
                                                          static_cast<std::int64_t>(block_x()) * kGemmRows, first_token);
        block_barrier();
    }
}

}  // namespace sparsecore::cuda
