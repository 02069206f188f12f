// What a block of the Hopper kernels for many tokens does with 2:4 weights in tiles (sm_90a): a ring of activations, and wgmma.sp.
//
// A block computes 128 rows: one warpgroup of producers keeps the ring filled, two of consumers multiply 64 rows each. The weights never
// pass through shared memory: their fragment order lets every lane load its registers from global memory, 16 bytes at a time. Shared
// memory is what limits sparse products on this GPU (each reads 128 bytes of B a clock), so it is left to the activations. A tile of 256
// tokens keeps the tensor cores busy for 512 clocks, some 300 ns: weights are asked for three tiles ahead, which is longer than a read
// from memory takes.
//
// Blocks of a cluster have other rows and the same tokens: each brings its share of a tile of activations for all of them, so that L2 is
// read once a cluster. A stage is filled again when all blocks have freed it, and a block ends with its cluster. In clocks of a
// multiprocessor of an H200 for a tile of 128 rows x 256 tokens x 128 bytes of a token, by data sheets and not measured:
//   wgmma.sp            512
//   shared memory       768 (32 KB of x written, 64 KB read by the products)
//   L2, at 24 to 30 B   1370 to 1750 without clusters (32 KB of x, 9 or 10 KB of weights), 850 to 1100 in pairs, 570 to 770 in fours
#pragma once

#include "cuda/common/results.h"
#include "cuda/common/ring_place.h"
#include "cuda/nm_linear/two_four/args.h"
#include "cuda/ptx/cluster.h"
#include "cuda/ptx/wgmma.h"

namespace sparsecore::cuda {

constexpr int kSm90Rows = 128, kSm90Threads = 3 * 128, kSm90Consumers = 2 * 128, kSm90ConsumerWarps = 8;
constexpr int kSm90Stages = 6;
constexpr int kSm90WeightTiles = 4;  // in registers: one is multiplied, the others are on their way
constexpr int kConsumerBarrier = 1;

// Below, a Shared is a block's shared memory: x[kStages], each a tile of kTokens rows of 128 bytes (or what multiply() takes for it), the
// barriers full[kStages] and empty[kStages], and multiply<T>(stage, weights, sums), which queues the products of the tile in a stage.

// `producers`: arrivals that fill a stage.
template <class Shared>
SC_DEVICE void init_ring(Shared& shared, int producers) {
    if (thread_x() == 0) {
        for (int stage = 0; stage < Shared::kStages; ++stage) {
            init_mbarrier(&shared.full[stage], producers);
            init_mbarrier(&shared.empty[stage], kSm90ConsumerWarps * static_cast<int>(cluster_size()));
        }
        fence_mbarrier_init();
    }
    cluster_barrier();
}

// Brings this block's share of each tile to all blocks of the cluster. `map`: activations as elements of two bytes, with boxes of one share.
template <class Shared>
SC_DEVICE void produce(const TwoFourArgs& a, const TensorMap* map, Shared& shared) {
    give_registers<40>();
    if (thread_x() != 0) return;
    const int share = Shared::kTokens / static_cast<int>(cluster_size()), first = static_cast<int>(cluster_rank()) * share;
    const int token = static_cast<int>(block_y()) * Shared::kTokens + first;
    RingPlace<Shared::kStages> place;
    for (std::int64_t tile = 0; tile < a.column_tiles; ++tile) {
        wait_phase_of_cluster(&shared.empty[place.stage], place.parity ^ 1);  // at once in the first round
        arrive_expecting(&shared.full[place.stage], sizeof shared.x[0]);
        copy_tile_to_cluster(&shared.x[place.stage][first], map, static_cast<int>(tile * kTileColumns), token, &shared.full[place.stage]);
        place.advance();
    }
}

// Multiplies the tile in `place`; behind it the products of the tile before are done, and its stage is freed in all blocks.
template <class T, class Shared, class Tile, class Sum>
SC_DEVICE void multiply_tile(Shared& shared, RingPlace<Shared::kStages> place, bool first, const Tile& weights, Sum (&sums)[Shared::kTokens / 2]) {
    wait_phase(&shared.full[place.stage], place.parity);
    fence_accumulators();
    shared.template multiply<T>(place.stage, weights, sums);
    commit_products();
    wait_products<1>(sums);
    const unsigned lane = thread_x() % kWarpSize;
    const int before = place.stage == 0 ? Shared::kStages - 1 : place.stage - 1;
    if (!first && lane < cluster_size()) arrive_in_block(&shared.empty[before], lane);
}

// Adds the products of the consumers' rows with all columns; Tiles: as TwoFourTiles.
template <class Tiles, class Shared, class Sum>
SC_DEVICE void multiply_tiles(const TwoFourArgs& a, Shared& shared, Sum (&sums)[Shared::kTokens / 2]) {
    const int warp = (static_cast<int>(thread_x()) - 128) / kWarpSize;
    std::int64_t row_tile = static_cast<std::int64_t>(block_x()) * kSm90ConsumerWarps + warp;
    row_tile = row_tile < a.row_tiles ? row_tile : a.row_tiles - 1;  // what it gives is not stored
    const auto row = Tiles::row_tile(a, row_tile);
    // Tiles beyond the last one repeat it; they are not multiplied.
    const auto load = [&](std::int64_t tile) {
        return Tiles::load(row, static_cast<std::uint32_t>(tile < a.column_tiles ? tile : a.column_tiles - 1));
    };
    typename Tiles::Tile weights[kSm90WeightTiles];
SC_UNROLL
    for (int i = 0; i < kSm90WeightTiles - 1; ++i) weights[i] = load(i);
    RingPlace<Shared::kStages> place;
    for (std::int64_t first = 0; first < a.column_tiles; first += kSm90WeightTiles) {
SC_UNROLL
        for (int i = 0; i < kSm90WeightTiles; ++i) {
            const std::int64_t tile = first + i;
            if (tile == a.column_tiles) break;
            multiply_tile<typename Tiles::Element>(shared, place, tile == 0, weights[i], sums);
            place.advance();
            // The products of the tile before are done: its registers take the one that is multiplied last from now.
            weights[(i + kSm90WeightTiles - 1) % kSm90WeightTiles] = load(tile + kSm90WeightTiles - 1);
        }
    }
    wait_products<0>(sums);
}

// Puts the sums of all consumers in the place of the ring.
template <class Sum, int kTokens>
SC_DEVICE void stage_sums(StagedSums<Sum, kSm90Rows> (&staged)[kTokens], const Sum (&sums)[kTokens / 2]) {
    named_barrier(kConsumerBarrier, kSm90Consumers);  // the ring is not read any more
    stage_sums<0>(staged, static_cast<int>(thread_x()) - 128, sums);
    named_barrier(kConsumerBarrier, kSm90Consumers);
}

}  // namespace sparsecore::cuda
