// int8 and fp8 2:4 linear layers, by mma.sp m16n8k64: exact sums of int8 (sm_80 and later), fp32 sums of E4M3 (sm_89, sm_120), then
// sum * (x scale * weight scale) + bias in fp32.
//
// The block of the 16-bit kernels (two_four/sm80_block.h) with twice the columns in the same bytes: 128 columns of a weight tile and of
// activations, in rows of 128 bytes. Floor: half the time of 16-bit 2:4 products.
// Up to 32 tokens have blocks of 32, whose three stages are 30 KB of weights in flight and leave room for two or more blocks an SM; up to 16
// have a kernel of their own (tiles.h).
#pragma once

#include "cuda/nm_linear/int8/results.h"
#include "cuda/nm_linear/two_four/sm80_block.h"

namespace sparsecore::cuda {

constexpr int kInt8Rows = 128, kInt8Stages = 3;

template <int kTokens, class E = I8>
struct Int8Shape : GemmShape<kInt8Rows, kTokens, E> {
    using Base = GemmShape<kInt8Rows, kTokens, E>;

    union Shared {
        struct {
            typename Base::Weights weights;
            typename Base::Tokens x;
        } stages[kInt8Stages];
        typename Base::Staged sums;
    };
};

// The product's operands: x is what quantise_tokens wrote, two columns an element.
SC_DEVICE TwoFourArgs quantised(const Int8Args& a) {
    TwoFourArgs args = a.call;
    args.x = a.q;
    args.cols = args.x_token_stride = a.q_stride / 2;
    args.x_column_stride = 1;
    args.x_in_units = true;
    return args;
}

template <class T, int kTokens, class Sum>
SC_DEVICE void write_scaled(const Int8Args& a, const StagedSums<Sum, kInt8Rows> (&sums)[kTokens], std::int64_t first_token) {
    for (int i = static_cast<int>(thread_x()); i < kTokens * kInt8Rows; i += kGemmThreads) {
        const std::int64_t token = first_token + i / kInt8Rows, row = static_cast<std::int64_t>(block_x()) * kInt8Rows + i % kInt8Rows;
        if (token >= a.call.tokens || row >= a.call.rows) continue;
        store_scaled<T>(a, token, row, sums[i / kInt8Rows].at(i % kInt8Rows));
    }
}

// T: element type of x and out; E: of the weight and of q. Grid: x = blocks of 128 rows, y = any number of blocks of kTokens tokens (the rest is looped over).
// Block: kGemmThreads.
template <class T, int kTokens, class E = I8>
SC_GLOBAL void SC_BOUNDS(kGemmThreads, 1) sm80_int8_gemm(Int8Args args) {
    using Shape = Int8Shape<kTokens, E>;
    auto& shared = shared_memory<typename Shape::Shared>();
    const TwoFourArgs a = quantised(args);
    for (std::int64_t block = block_y(); block * kTokens < a.tokens; block += grid_dim_y()) {
        const std::int64_t first_token = block * kTokens;
        const auto fetch = [&](std::int64_t tile) {
            if (tile < a.column_tiles) {
                auto& stage = shared.stages[tile % kInt8Stages];
                fetch_weights<typename Shape::Base>(a, stage.weights, tile);
                fetch_tokens<typename Shape::Base>(a, stage.x, tile, first_token);
            }
            commit_copies();
        };
        typename Shape::Sums sums = {};
        for (int tile = 0; tile < kInt8Stages - 1; ++tile) fetch(tile);
        for (std::int64_t tile = 0; tile < a.column_tiles; ++tile) {
            wait_copies<kInt8Stages - 2>();
            block_barrier();  // this stage is there for all, and all are done with the one that is filled next
            fetch(tile + kInt8Stages - 1);
            const auto& stage = shared.stages[tile % kInt8Stages];
            multiply_stage<E, typename Shape::Base>(stage.weights, stage.x, sums);
        }
        wait_copies<0>();
        block_barrier();  // the sums take the place of the stages
        keep_sums<typename Shape::Base>(shared.sums, sums);
        block_barrier();
        write_scaled<T, kTokens>(args, shared.sums, first_token);
        block_barrier();
    }
}

}  // namespace sparsecore::cuda
