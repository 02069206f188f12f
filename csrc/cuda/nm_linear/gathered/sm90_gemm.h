// V:N:M linear layer for many tokens on Hopper (sm_90a): wgmma.sp on four columns of every group of 8 or 16.
//
// The block of two_four/sm90_block.h, 128 rows x 256 tokens with weights in registers, on a ring that four producer warps fill: x lies
// transposed in memory (transpose.h), so that a chosen column is 512 consecutive bytes; a warp copies it by 16 bytes a lane to where the
// 128-byte swizzle has a row of B, which wgmma reads with the tokens behind each other. Copies are ordinary writes: each producer waits
// for its own, shows them to the async proxy, and one lane of a warp arrives for it.
//
// Floor: half (2:8) or a quarter (2:16) of the products of a 2:4 layer. In clocks of a multiprocessor of an H200 for 128 rows x 256 tokens x
// 64 chosen columns, by data sheets and not measured:
//   dense products of the 128 columns of 2:8   2048 (2570 at the 788 TFLOP/s that dense layers reach)
//   wgmma.sp                                    512
//   shared memory                               770 (32 KB of x written, read by two warpgroups whose products take twice the bytes a clock)
//   L2, at 24 to 30 bytes a clock              1370 to 1710 (32 KB of x and 9 KB of weights: no two blocks of rows share columns)
// So L2 is what limits it. With the time to begin and end a block, 4 %, and the transposition, 62 us of the 1395 of a dense layer of 8192^3, it
// should be 1.3 to 1.6 times as fast as dense; sm80_gemm.h, which takes 42 KB for 3/4 of the results, 1.0 to 1.3. Blocks that run side by side
// have the same tokens and half of their columns in common, should L2 answer them together. Next would be to share weights between two
// blocks of a cluster, of other tokens: 37 KB.
#pragma once

#include "cuda/nm_linear/gathered/plan.h"
#include "cuda/nm_linear/two_four/sm80_block.h"
#include "cuda/nm_linear/two_four/sm90_gemm.h"
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/warp.h"
#include "cuda/ptx/wgmma_transposed.h"

namespace sparsecore::cuda {

constexpr int kGatheredStages = 4;
constexpr int kGatheredProducerWarps = 4;  // as many as a group has chosen columns

struct Sm90GatheredShared {
    static constexpr int kTokens = kSm90GatheredTokens, kStages = kGatheredStages, kBlockTokens = 64;
    using Stage = std::uint16_t[kTokens / kBlockTokens][kTileColumns][kBlockTokens];
    union {
        Stage x[kGatheredStages];
        StagedSums<float, kSm90Rows> sums[kTokens];
    };
    MBarrier full[kGatheredStages], empty[kGatheredStages];

    // Queues the products of the tile that is in `stage`.
    template <class T>
    SC_DEVICE void multiply(int stage, const TwoFourTile& weights, float (&sums)[kTokens / 2]) const {
        constexpr int kBlockBytes = sizeof x[0][0];
        const RowsDescriptor left = rows_descriptor(&x[stage][0][0], kBlockBytes);
        const RowsDescriptor right = rows_descriptor(&x[stage][0][kTileColumns / 2], kBlockBytes);
        multiply_sparse_rows_async<T, 0>(sums, weights.halves[0].word, left, weights.metadata);
        multiply_sparse_rows_async<T, 1>(sums, weights.halves[1].word, right, weights.metadata);
    }
};

// Chosen columns of the groups of a tile, 16 bits each.
struct ChosenTile {
    Words4 half[2];

    SC_DEVICE int place(int group, int slot) const {
        const std::uint32_t word = half[group / 8].word[group % 8 / 2];
        return static_cast<int>(word >> (group % 2 * 16 + 4 * slot) & 15u);
    }
};

// Tiles beyond the last one repeat it; nothing is fetched for them.
SC_DEVICE ChosenTile load_chosen(const GatheredArgs& a, std::int64_t tile) {
    tile = tile < a.column_tiles ? tile : a.column_tiles - 1;
    const auto* from = reinterpret_cast<const Words4*>(a.chosen + (block_x() * a.column_tiles + tile) * kTileGroups);
    return {{from[0], from[1]}};
}

// Warp w brings column w of each group's four, a lane 8 tokens of it; zeros outside of x.
SC_DEVICE void fetch_columns(const GatheredArgs& a, Sm90GatheredShared::Stage& stage, const ChosenTile& chosen, std::int64_t tile) {
    const int slot = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
    const std::int64_t token = std::int64_t{block_y()} * kSm90GatheredTokens + lane * kUnit;
    const std::int64_t first = tile * (kTileGroups * a.group), columns = token < a.tokens ? a.cols - first : 0;
    const int left = static_cast<int>(columns < kTileGroups * 16 ? columns : kTileGroups * 16);
    const int stride = static_cast<int>(a.column_tokens);
    const std::uint16_t* from = a.columns + first * stride + token;
    std::uint16_t* to = &stage[lane / 8][slot][0];
SC_UNROLL
    for (int group = 0; group < kTileGroups; ++group) {
        const int column = group * a.group + chosen.place(group, slot);
        const bool inside = column < left;
        std::uint16_t* unit = to + group * 4 * Sm90GatheredShared::kBlockTokens + exchanged_unit(group % 2 * 4 + slot, lane % 8) * kUnit;
        copy_async_16(unit, inside ? from + std::int64_t{column} * stride : a.columns, inside ? 16 : 0);
    }
}

SC_DEVICE void produce_columns(const GatheredArgs& a, Sm90GatheredShared& shared) {
    constexpr int kUnderWay = kGatheredStages - 2;  // besides the tile just asked for; consumers free a stage once they have the next one
    give_registers<40>();
    ChosenTile chosen = load_chosen(a, 0);
    for (std::int64_t tile = 0; tile < a.column_tiles + kUnderWay; ++tile) {
        if (tile < a.column_tiles) {
            const int stage = static_cast<int>(tile % kGatheredStages);
            const std::int64_t round = tile / kGatheredStages;
            if (round > 0) wait_phase(&shared.empty[stage], static_cast<int>((round - 1) % 2));
            fetch_columns(a, shared.x[stage], chosen, tile);
            chosen = load_chosen(a, tile + 1);
        }
        commit_copies();
        if (tile < kUnderWay) continue;
        wait_copies<kUnderWay>();
        fence_async_proxy();
        warp_barrier();
        if (thread_x() % kWarpSize == 0) arrive(&shared.full[(tile - kUnderWay) % kGatheredStages]);
    }
}

// Grid: x = blocks of 128 rows, y = blocks of 256 tokens. Block: kSm90Threads. x has been transposed; there is at least one column tile.
template <class T>
SC_GLOBAL void SC_BOUNDS(kSm90Threads, 1) sm90_gathered_gemm(GatheredArgs a) {
    auto& shared = shared_memory<Sm90GatheredShared>();
    init_ring(shared, kGatheredProducerWarps);
    if (thread_x() < kGatheredProducerWarps * kWarpSize) return produce_columns(a, shared);
    consume<T>(a, shared);
}

}  // namespace sparsecore::cuda
