// V:N:M linear layer for many tokens (sm_80 and later): 2:4 products on four columns of every group of 8 or 16.
//
// A block of threads computes one or two blocks of the weight's rows, 64 or 128 each, which share their columns. Each thread loads
// groups of x, as they lie, ahead into registers, picks the four columns of each block of rows by byte permutations, 6 or 14 for
// 8 bytes, and stores them for mma.sp; weights come by a ring of asynchronous copies.
//
// Floor: half (2:8) or a quarter (2:16) of the products of a 2:4 layer. In clocks of an SM for 256 rows x 96 tokens x 128 columns (2:8),
// by data sheets and not measured:
//                           A100   H200
//   dense                   3072   1536 (wgmma; 1900 at the 0.8 of the peak that dense layers reach)
//   mma.sp                   768    640 (at 0.6 of wgmma's rate)
//   shared memory           1100   1100 (each warp reads all picked tokens, 96 KB; 24 KB of picked x and 18 KB of weights are written)
//   L2, at 30 bytes a clock 1400   1400 (24 KB of x and 18 KB of weights; one block of rows at a time takes 2200)
// So L2 is what limits it: that is why two blocks of rows share x.
#pragma once

#include "cuda/nm_linear/gathered/pick.h"
#include "cuda/nm_linear/two_four/sm80_block.h"

namespace sparsecore::cuda {

// Of weights: a tile ahead are 1400 clocks, and with three of them two blocks of rows would not fit the 99 KB that some GPUs have.
constexpr int kGatherStages = 2;

// Groups of 16 have half the tokens of groups of 8: as many bytes of x are ahead in registers. 256 rows leave registers for 96 tokens.
constexpr int gathered_tokens(int rows, int group) { return group == 16 ? 64 : rows == 256 ? 96 : 128; }

template <int kBlockRows, int kGroup, int kBlocks>
struct GatheredShape : GemmShape<kBlockRows * kBlocks, gathered_tokens(kBlockRows * kBlocks, kGroup)> {
    using Base = GemmShape<kBlockRows * kBlocks, gathered_tokens(kBlockRows * kBlocks, kGroup)>;
    using Picked = typename Base::Tokens[kBlocks];  // x as each block of rows takes it
    static constexpr int kUnits = Base::kTokens * kTileGroups / kGemmThreads / 2;  // groups that a thread picks from in half a tile

    union Shared {
        struct {
            typename Base::Weights weights[kGatherStages];
            alignas(128) Picked x[2];
        };
        typename Base::Staged sums;
    };
};

// What a thread loads of a column tile: its own group of columns, from every (kGemmThreads / kTileGroups)-th token, half of them at a
// time. They are on their way while the warps multiply half a tile, some 400 clocks; no registers are left for more.
template <class Shape, int kGroup, int kBlocks>
struct GatheredTile {
    static constexpr int kStep = kGemmThreads / kTileGroups;
    Words4 units[Shape::kUnits][kGroup / kUnit];
    std::uint32_t chosen[kBlocks];

    static SC_DEVICE int token_of(int part, int i) {
        return static_cast<int>(thread_x()) / kTileGroups + (part * Shape::kUnits + i) * kStep;
    }

    SC_DEVICE void load(const GatheredArgs& a, std::int64_t tile, int part, std::int64_t first_token) {
        const std::int64_t group = tile * kTileGroups + thread_x() % kTileGroups;
        constexpr int kBlockTiles = Shape::kRowTiles / kBlocks;
SC_UNROLL
        for (int b = 0; b < kBlocks; ++b) {
            chosen[b] = chosen_of(a, static_cast<std::int64_t>(block_x()) * Shape::kRowTiles + b * kBlockTiles, group);
        }
SC_UNROLL
        for (int i = 0; i < Shape::kUnits; ++i) {
            load_group<kGroup>(a, first_token + token_of(part, i), group, units[i]);
        }
    }

    SC_DEVICE void pick(int part, typename Shape::Picked& x) const {
        const int group = static_cast<int>(thread_x() % kTileGroups);
SC_UNROLL
        for (int b = 0; b < kBlocks; ++b) {
            const Picker<kGroup> picker(chosen[b]);
SC_UNROLL
            for (int i = 0; i < Shape::kUnits; ++i) {
                const int token = token_of(part, i);
                auto* to = &x[b][token][exchanged_unit(token, group / 2) * kUnit + group % 2 * 4];
                *reinterpret_cast<Words2*>(to) = picker.pick(units[i]);
            }
        }
    }
};

// Grid: x = blocks of kBlocks * kBlockRows rows, y = any number of blocks of tokens (the rest is looped over). Block: kGemmThreads.
template <class T, int kBlockRows, int kGroup, int kBlocks>
SC_GLOBAL void SC_BOUNDS(kGemmThreads, 1) sm80_gathered_gemm(GatheredArgs a) {
    using Shape = GatheredShape<kBlockRows, kGroup, kBlocks>;
    constexpr int kWarpsOfBlock = kGemmThreads / kWarpSize / kBlocks;  // warps are in the order of rows
    const int own_block = static_cast<int>(thread_x()) / kWarpSize / kWarpsOfBlock;
    auto& shared = shared_memory<typename Shape::Shared>();
    for (std::int64_t block = block_y(); block * Shape::kTokens < a.tokens; block += grid_dim_y()) {
        const std::int64_t first_token = block * Shape::kTokens;
        const auto fetch = [&](std::int64_t tile) {
            if (tile < a.column_tiles) fetch_weights<typename Shape::Base>(a, shared.weights[tile % kGatherStages], tile);
            commit_copies();
        };
        GatheredTile<Shape, kGroup, kBlocks> ahead;
        const auto load = [&](std::int64_t tile, int part) {
            if (tile < a.column_tiles) ahead.load(a, tile, part, first_token);
        };
        const auto pick = [&](std::int64_t tile, int part) {
            if (tile < a.column_tiles) ahead.pick(part, shared.x[tile % 2]);
        };
        typename Shape::Sums sums = {};
        for (int tile = 0; tile < kGatherStages - 1; ++tile) fetch(tile);
        for (int part = 0; part < 2; ++part) {
            load(0, part);
            pick(0, part);
        }
        for (std::int64_t tile = 0; tile < a.column_tiles; ++tile) {
            wait_copies<kGatherStages - 2>();
            block_barrier();  // this tile is there for all, and all are done with the one before
            fetch(tile + kGatherStages - 1);
            const auto& weights = shared.weights[tile % kGatherStages];
            const auto& x = shared.x[tile % 2][own_block];
            load(tile + 1, 0);
            multiply_half<T, typename Shape::Base, 0>(weights, x, sums);
            pick(tile + 1, 0);
            load(tile + 1, 1);
            multiply_half<T, typename Shape::Base, 1>(weights, x, sums);
            pick(tile + 1, 1);
        }
        wait_copies<0>();
        block_barrier();
        keep_sums<typename Shape::Base>(shared.sums, sums);
        block_barrier();
        write_results<T, kGemmThreads>(a, shared.sums, static_cast<int>(thread_x()), std::int64_t{block_x()} * Shape::kRows, first_token);
        block_barrier();
    }
}

}  // namespace sparsecore::cuda
