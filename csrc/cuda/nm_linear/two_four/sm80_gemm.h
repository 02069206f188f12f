// 2:4 linear layer for many tokens (sm_80 and later), by mma.sp on tiles that a ring of asynchronous copies brings.
//
// A block computes 128 rows x 128 tokens, a warp 32 x 64 of them, 64 columns of the weight at a time.
#pragma once

#include "cuda/nm_linear/two_four/sm80_block.h"

namespace sparsecore::cuda {

constexpr int kGemmRows = 128, kGemmTokens = 128, kGemmStages = 3;
using TwoFourShape = GemmShape<kGemmRows, kGemmTokens>;

struct GemmStage {
    TwoFourShape::Weights weights;
    TwoFourShape::Tokens x;
};

union GemmShared {
    GemmStage stages[kGemmStages];
    TwoFourShape::Staged sums;
};

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
                fetch_weights<TwoFourShape>(a, stage.weights, tile);
                fetch_tokens<TwoFourShape>(a, stage.x, tile, first_token);
            }
            commit_copies();
        };
        TwoFourShape::Sums sums = {};
        for (int tile = 0; tile < kGemmStages - 1; ++tile) fetch(tile);
        for (std::int64_t tile = 0; tile < a.column_tiles; ++tile) {
            wait_copies<kGemmStages - 2>();
            block_barrier();  // this stage is there for all, and all are done with the one that is filled next
            fetch(tile + kGemmStages - 1);
            const GemmStage& stage = shared.stages[tile % kGemmStages];
            multiply_stage<T, TwoFourShape>(stage.weights, stage.x, sums);
        }
        wait_copies<0>();
        block_barrier();
        keep_sums<TwoFourShape>(shared.sums, sums);
        block_barrier();
        write_results<T, kGemmThreads>(a, shared.sums, static_cast<int>(thread_x()), std::int64_t{block_x()} * kGemmRows, first_token);
        block_barrier();
    }
}

}  // namespace sparsecore::cuda
