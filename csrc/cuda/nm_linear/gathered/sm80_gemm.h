// V:N:M linear layer for many tokens (sm_80 and later): 2:4 products on four columns of every group of 8 or 16.
//
// A block computes the 64 or 128 rows of one block of the weight, which share their columns. Each thread loads a group of x, as it lies, a
// tile ahead into registers, picks the four columns by byte permutations, 6 or 14 for 8 bytes, and stores them for mma.sp; weights come
// by a ring of asynchronous copies.
//
// Floor: half (2:8) or a quarter (2:16) of the products of a 2:4 layer. What the kernel needs beside them for 128 rows x 128 tokens x
// 128 columns (2:8) is 32 KB of x: on an A100 256 mma.sp take 512 clocks and x comes at 64 bytes a clock, both in balance, four times as
// fast as a dense layer. On an H200, whose mma has 0.6 of the rate of wgmma, the same products take about 820 clocks, 1.6 times as long as dense
// wgmma for these rows; and a wgmma.sp kernel would read 80 KB of shared memory (x, its picked half, and that twice again) in 640
// clocks, no faster than dense. There these weights are better expanded for many tokens.
#pragma once

#include "cuda/nm_linear/gathered/pick.h"
#include "cuda/nm_linear/two_four/sm80_block.h"

namespace sparsecore::cuda {

constexpr int kGatherStages = 3;

// Groups of 16 have half the tokens of groups of 8: as many bytes of x are ahead in registers.
template <int kBlockRows, int kGroup>
struct GatheredShape : GemmShape<kBlockRows, 1024 / kGroup> {
    using Base = GemmShape<kBlockRows, 1024 / kGroup>;
    static constexpr int kUnits = Base::kTokens * kTileGroups / kGemmThreads;  // groups that a thread picks from in a tile

    union Shared {
        struct {
            typename Base::Weights weights[kGatherStages];
            alignas(128) typename Base::Tokens x[2];
        };
        typename Base::Results out;
    };
};

// What a thread loads of a column tile: its own group of columns, from every (kGemmThreads / kTileGroups)-th token.
template <class Shape, int kGroup>
struct GatheredTile {
    static constexpr int kStep = kGemmThreads / kTileGroups;
    Words4 units[Shape::kUnits][kGroup / kUnit];
    std::uint32_t chosen;

    SC_DEVICE void load(const GatheredArgs& a, std::int64_t tile, std::int64_t first_token) {
        const std::int64_t group = tile * kTileGroups + thread_x() % kTileGroups;
        chosen = chosen_of(a, static_cast<std::int64_t>(block_x()) * Shape::kRowTiles, group);
SC_UNROLL
        for (int i = 0; i < Shape::kUnits; ++i) {
            load_group<kGroup>(a, first_token + thread_x() / kTileGroups + i * kStep, group, units[i]);
        }
    }

    SC_DEVICE void pick(typename Shape::Tokens& x) const {
        const Picker<kGroup> picker(chosen);
        const int group = static_cast<int>(thread_x() % kTileGroups);
SC_UNROLL
        for (int i = 0; i < Shape::kUnits; ++i) {
            const int token = static_cast<int>(thread_x()) / kTileGroups + i * kStep;
            auto* to = &x[token][exchanged_unit(token, group / 2) * kUnit + group % 2 * 4];
            *reinterpret_cast<Words2*>(to) = picker.pick(units[i]);
        }
    }
};

// Grid: x = blocks of kBlockRows rows, y = any number of blocks of tokens (the rest is looped over). Block: kGemmThreads.
template <class T, int kBlockRows, int kGroup>
SC_GLOBAL void SC_BOUNDS(kGemmThreads, 1) sm80_gathered_gemm(GatheredArgs a) {
    using Shape = GatheredShape<kBlockRows, kGroup>;
    auto& shared = shared_memory<typename Shape::Shared>();
    for (std::int64_t block = block_y(); block * Shape::kTokens < a.tokens; block += grid_dim_y()) {
        const std::int64_t first_token = block * Shape::kTokens;
        const auto fetch = [&](std::int64_t tile) {
            if (tile < a.column_tiles) fetch_weights<typename Shape::Base>(a, shared.weights[tile % kGatherStages], tile);
            commit_copies();
        };
        GatheredTile<Shape, kGroup> ahead;
        const auto load = [&](std::int64_t tile) {
            if (tile < a.column_tiles) ahead.load(a, tile, first_token);
        };
        typename Shape::Sums sums = {};
        for (int tile = 0; tile < kGatherStages - 1; ++tile) fetch(tile);
        load(0);
        if (a.column_tiles > 0) ahead.pick(shared.x[0]);
        load(1);
        for (std::int64_t tile = 0; tile < a.column_tiles; ++tile) {
            wait_copies<kGatherStages - 2>();
            block_barrier();  // this tile is there for all, and all are done with the one before
            fetch(tile + kGatherStages - 1);
            if (tile + 1 < a.column_tiles) ahead.pick(shared.x[(tile + 1) % 2]);
            load(tile + 2);
            multiply_stage<T, typename Shape::Base>(shared.weights[tile % kGatherStages], shared.x[tile % 2], sums);
        }
        wait_copies<0>();
        block_barrier();
        stage_results<T, typename Shape::Base>(a, shared.out, sums);
        block_barrier();
        write_pairs<Shape::kTokens, kBlockRows, kGemmThreads>(a, &shared.out[0][0], static_cast<int>(thread_x()),
                                                              static_cast<std::int64_t>(block_x()) * kBlockRows, first_token);
        block_barrier();
    }
}

}  // namespace sparsecore::cuda
