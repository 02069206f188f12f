// Block-sparse linear layer for many tokens on Hopper (sm_90a), blocks of 64 or 128 rows and columns, by wgmma.
//
// A block of threads computes a band of 128 rows x kTokens tokens: one producer thread keeps a ring filled by TMA, two warpgroups multiply
// 64 rows each. A stage holds 64 columns: the box of activations at the kept block's columns, and the 64x64 weights of each group
// that keeps a block there, one bulk copy each. Thread blocks are persistent: the producer fills the ring for the next band while
// the groups, each by itself, write their results.
//
// Floor: a kept 64x64 block takes 512 clocks of an SM's tensor cores for 256 tokens; the memory's, 64 us for 8192^3 at 95 %.
// Limits above it, in bytes a clock and SM at full rate:
//   shared memory  80 of 128 for operands of m64n256k16, plus the fills below, 144 in all for 64x64 at 50 %: 89 % of the peak
//   L2             8 KB of weights and 32 KB of activations a block in 512 clocks: 80 where each step serves one block row. L2 gives about
//                  25 to 40. That is what limits blocks of 64 rows; so two block rows share the activations of a step
//                  (at 50 % a step serves 1.33 of them: 64), and one of 128 rows has them to itself (48, as a dense 128x256 tile).
#pragma once

#include "cuda/block_linear/args.h"
#include "cuda/common/results.h"
#include "cuda/common/ring_place.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma.h"

namespace sparsecore::cuda::block {

constexpr int kGroupThreads = 128, kGroups = 2, kGroupRows = 64;
constexpr int kSm90Threads = (1 + kGroups) * kGroupThreads, kSm90ConsumerWarps = kGroups * kGroupThreads / kWarpSize;
constexpr int kTileElements = kGroupRows * kSlabColumns;

template <int kTokens>
struct Sm90Shared {
    static constexpr int kStages = kTokens == 256 ? 3 : 4, kStagedTokens = kTokens < 128 ? kTokens : 128;
    std::uint16_t w[kStages][kGroups][kGroupRows][kSlabColumns];  // tiles are multiples of 1024 bytes
    std::uint16_t x[kStages][kTokens][kSlabColumns];
    StagedSums<float, kGroupRows> sums[kGroups][kStagedTokens];
    std::uint32_t tiles[kStages];  // of the step that a stage belongs to
    MBarrier full[kStages], empty[kStages];
};

// One band and block of tokens. All bands of a block of tokens follow each other: its activations stay in L2, however sparse.
struct Item {
    std::int64_t band, first_token, first_step, steps;
    SC_DEVICE Item(const BlockArgs& a, std::int64_t number, int tokens) {
        band = number % a.bands;
        first_token = number / a.bands * tokens;
        first_step = a.band_steps[band];
        steps = a.band_steps[band + 1] - first_step;
    }
};

SC_HOST_DEVICE std::int64_t item_count(const BlockArgs& a, int tokens) { return a.bands * ((a.tokens + tokens - 1) / tokens); }

// Whether a group has weights in a step: its 64 rows are four row tiles, kept together.
SC_DEVICE bool keeps(std::uint32_t tiles, int group) { return (tiles >> (group * (kGroupRows / kRowTile)) & 1) != 0; }

// The block row that a group's rows belong to, or -1, and the first of them within it.
SC_DEVICE std::int64_t group_block_row(const BlockArgs& a, std::int64_t band, int group) {
    return a.height == kBandRows ? a.band_rows[band] : a.band_rows[band * kGroups + group];
}
SC_DEVICE int group_first_row(const BlockArgs& a, int group) { return a.height == kBandRows ? group * kGroupRows : 0; }

template <int kTokens>
SC_DEVICE void fill_stage(const BlockArgs& a, const TensorMap* map, Sm90Shared<kTokens>& shared, int stage, std::uint32_t step,
                          int slab, const std::int64_t (&next)[kGroups], std::int64_t first_token) {
    const int groups = keeps(step, 0) + keeps(step, 1);
    shared.tiles[stage] = step & kStepTiles;
    arrive_expecting(&shared.full[stage], static_cast<int>(sizeof shared.x[stage]) + groups * kTileElements * 2);
    const std::int64_t column = static_cast<std::int64_t>(step >> kStepTileBits) * a.width + slab * kSlabColumns;
    copy_tile(shared.x[stage], map, static_cast<int>(column), static_cast<int>(first_token), &shared.full[stage]);
    for (int group = 0; group < kGroups; ++group) {
        if (!keeps(step, group)) continue;
        const std::uint16_t* values = a.values + next[group] * a.height * a.width +
                                      (slab * a.height + group_first_row(a, group)) * kSlabColumns;
        copy_bulk(shared.w[stage][group], values, kTileElements * 2, &shared.full[stage]);
    }
}

template <int kTokens>
SC_DEVICE void produce(const BlockArgs& a, const TensorMap* map, Sm90Shared<kTokens>& shared) {
    give_registers<40>();
    if (thread_x() != 0) return;
    RingPlace<Sm90Shared<kTokens>::kStages> place;
    const std::int64_t items = item_count(a, kTokens);
    for (std::int64_t number = block_x(); number < items; number += grid_dim_x()) {
        const Item item(a, number, kTokens);
        std::int64_t next[kGroups];  // the next block of each group
        for (int group = 0; group < kGroups; ++group) {
            const std::int64_t block_row = group_block_row(a, item.band, group);
            next[group] = block_row < 0 ? 0 : a.row_offsets[block_row];
        }
        for (std::int64_t i = 0; i < item.steps; ++i) {
            const std::uint32_t step = a.steps[item.first_step + i];
            for (int slab = 0; slab < a.width / kSlabColumns; ++slab, place.advance()) {
                wait_phase(&shared.empty[place.stage], place.parity ^ 1);
                fill_stage<kTokens>(a, map, shared, place.stage, step, slab, next, item.first_token);
            }
            for (int group = 0; group < kGroups; ++group) next[group] += keeps(step, group);
        }
    }
}

template <int kTokens>
SC_DEVICE void release(Sm90Shared<kTokens>& shared, int stage) {
    if (thread_x() % kWarpSize == 0) arrive(&shared.empty[stage]);
}

// Goes on to the next stage that the group has weights in, and frees the others, also the one that is still multiplied (`held`): the
// ring may have no other to go on with. False at the end of the item.
template <int kTokens, class Place>
SC_DEVICE bool find_work(Sm90Shared<kTokens>& shared, int group, Place& place, std::int64_t& left, int& held,
                         float (&sums)[kTokens / 2]) {
    for (; left > 0; --left, place.advance()) {
        wait_phase(&shared.full[place.stage], place.parity);
        if (keeps(shared.tiles[place.stage], group)) return true;
        wait_products<0>(sums);
        if (held >= 0) release(shared, held);
        held = -1;
        release(shared, place.stage);
    }
    return false;
}

template <class T, int kTokens>
SC_DEVICE void multiply_stage(Sm90Shared<kTokens>& shared, int group, int stage, float (&sums)[kTokens / 2]) {
    fence_accumulators();
SC_UNROLL
    for (int k = 0; k < kSlabColumns; k += 16) {
        multiply_async<T, kTokens>(sums, tile_descriptor(&shared.w[stage][group][0][k]),
                                   tile_descriptor(&shared.x[stage][0][k]));
    }
    commit_products();
}

// Adds the products of one item to `sums`. Those of a stage are waited for behind those of the next one, so that the tensor cores
// always have some to do.
template <class T, int kTokens, class Place>
SC_DEVICE void multiply_item(const BlockArgs& a, const Item& item, int group, Sm90Shared<kTokens>& shared, Place& place,
                             float (&sums)[kTokens / 2]) {
    std::int64_t left = item.steps * (a.width / kSlabColumns);
    int held = -1;  // the stage that is still multiplied
    while (find_work(shared, group, place, left, held, sums)) {
        multiply_stage<T, kTokens>(shared, group, place.stage, sums);
        wait_products<1>(sums);
        if (held >= 0) release(shared, held);
        held = place.stage;
        --left;
        place.advance();
    }
    wait_products<0>(sums);
    if (held >= 0) release(shared, held);
}

// Results of kStagedTokens tokens from kFirst on, and then of those behind; through shared memory of the group's own.
template <class T, int kTokens, int kFirst = 0>
SC_DEVICE void write_item(const BlockArgs& a, const Item& item, int group, Sm90Shared<kTokens>& shared,
                          const float (&sums)[kTokens / 2]) {
    constexpr int kStaged = Sm90Shared<kTokens>::kStagedTokens;
    const int thread = static_cast<int>(thread_x()) % kGroupThreads;
    const std::int64_t block_row = group_block_row(a, item.band, group);
    if (block_row < 0) return;
    named_barrier(1 + group, kGroupThreads);  // what was staged before is written
    stage_sums<kFirst>(shared.sums[group], thread, sums);
    named_barrier(1 + group, kGroupThreads);
    write_results<T, kGroupThreads>(a, shared.sums[group], thread, block_row * a.height + group_first_row(a, group),
                                    item.first_token + kFirst);
    if constexpr (kFirst + kStaged < kTokens) write_item<T, kTokens, kFirst + kStaged>(a, item, group, shared, sums);
}

template <class T, int kTokens>
SC_DEVICE void consume(const BlockArgs& a, Sm90Shared<kTokens>& shared) {
    take_registers<232>();
    const int group = static_cast<int>(thread_x()) / kGroupThreads - 1;
    RingPlace<Sm90Shared<kTokens>::kStages> place;
    const std::int64_t items = item_count(a, kTokens);
    for (std::int64_t number = block_x(); number < items; number += grid_dim_x()) {
        const Item item(a, number, kTokens);
        float sums[kTokens / 2] = {};
        multiply_item<T, kTokens>(a, item, group, shared, place, sums);
        write_item<T, kTokens>(a, item, group, shared, sums);
    }
}

// Grid: x = any number of blocks, which share out the items. Block: kSm90Threads. `map`: x as a matrix [tokens, cols] with boxes of
// kTokens x 64.
template <class T, int kTokens>
SC_GLOBAL void SC_BOUNDS(kSm90Threads, 1) sm90_gemm(BlockArgs a, SC_TENSOR_MAP map) {
    auto& shared = shared_memory<Sm90Shared<kTokens>>();
    if (thread_x() == 0) {
        for (int stage = 0; stage < Sm90Shared<kTokens>::kStages; ++stage) {
            init_mbarrier(&shared.full[stage], 1);
            init_mbarrier(&shared.empty[stage], kSm90ConsumerWarps);
        }
        fence_mbarrier_init();
    }
    block_barrier();
    if (thread_x() < kGroupThreads) return produce<kTokens>(a, &map, shared);
    consume<T, kTokens>(a, shared);
}

}  // namespace sparsecore::cuda::block
