// How fast a multiprocessor of Hopper multiplies when nothing is in the way but the operands: the ceiling of the 2:4 kernels.
//
// wgmma.sp m64n256k32 takes 128 clocks and reads 16 KB of B from shared memory, all of the 128 bytes a clock that it gives; A in shared
// memory takes 2 KB more, and tiles that arrive meanwhile take their share as well. So the rate is measured with A in memory and in
// registers, with a ring of tiles that is filled once, and with one that is filled anew at the pace of a matrix product.
#pragma once

#include "cuda/common/element.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma.h"

namespace sparsecore::cuda {

constexpr int kRateColumns = 256, kRateDepth = 64, kRateStages = 4, kRateRows = 64;
constexpr int kRateFragments = 2;  // of A in one tile: 2 x 32 columns of a 2:4 weight

struct RateArgs {
    const std::uint32_t* fragments;  // [kRateFragments, 4, 128]: A in registers
    const std::uint32_t* metadata;   // [kRateFragments, 128]
    float* out;                      // [blocks, consumers, 128, kRateColumns / 2]
    std::int64_t tiles;              // of kRateDepth columns, multiplied by every consumer
};

// What is measured: by two warpgroups of 64 rows each; a third would leave too few registers for 256 columns.
constexpr int kRateConsumers = 2, kRateThreads = 128 * (1 + kRateConsumers);
template <bool kSparse_, bool kRegisters_, bool kFills_>
struct Rate {
    static constexpr bool kSparse = kSparse_, kRegisters = kRegisters_, kFills = kFills_;
};

template <class R>
struct RateShared {
    std::uint16_t b[kRateStages][kRateColumns][kRateDepth];
    std::uint16_t a[kRateConsumers][kRateRows][kRateDepth];
    MBarrier full[kRateStages], empty[kRateStages], ready;
};

template <class R>
SC_DEVICE void fill(RateShared<R>& shared, int stage, const TensorMap* b_map) {
    arrive_expecting(&shared.full[stage], sizeof shared.b[stage]);
    copy_tile(shared.b[stage], b_map, 0, stage * kRateColumns, &shared.full[stage]);
}

template <class R>
SC_DEVICE void feed(const RateArgs& args, RateShared<R>& shared, const TensorMap* a_map, const TensorMap* b_map) {
    give_registers<40>();
    if (thread_x() != 0) return;
    arrive_expecting(&shared.ready, sizeof shared.a);
    for (int i = 0; i < kRateConsumers; ++i) copy_tile(shared.a[i], a_map, 0, i * kRateRows, &shared.ready);
    for (std::int64_t tile = 0; tile < args.tiles; ++tile) {
        const int stage = static_cast<int>(tile % kRateStages);
        if (tile >= kRateStages) {
            if (!R::kFills) return;
            wait_phase(&shared.empty[stage], static_cast<int>((tile / kRateStages - 1) % 2));
        }
        fill<R>(shared, stage, b_map);
    }
}

template <class R>
SC_DEVICE void multiply_stage(RateShared<R>& shared, int consumer, int stage, const std::uint32_t (&a)[kRateFragments][4],
                              const std::uint32_t (&metadata)[kRateFragments], float (&sums)[kRateColumns / 2]) {
    fence_accumulators();
    if constexpr (R::kSparse) {
SC_UNROLL
        for (int i = 0; i < kRateFragments; ++i) {
            const TileDescriptor b = tile_descriptor(&shared.b[stage][0][32 * i]);
            if constexpr (R::kRegisters) {
                multiply_sparse_async<BF16, kRateColumns, 0>(sums, a[i], b, metadata[i]);
            } else {
                multiply_sparse_async<BF16, kRateColumns, 0>(sums, tile_descriptor(&shared.a[consumer][0][16 * i]), b, metadata[i]);
            }
        }
    } else {
SC_UNROLL
        for (int i = 0; i < kRateDepth / 16; ++i) {
            multiply_async<BF16, kRateColumns>(sums, tile_descriptor(&shared.a[consumer][0][16 * i]),
                                               tile_descriptor(&shared.b[stage][0][16 * i]));
        }
    }
    commit_products();
}

template <class R>
SC_DEVICE void multiply_tiles(const RateArgs& args, RateShared<R>& shared) {
    take_registers<232>();
    const int consumer = static_cast<int>(thread_x()) / 128 - 1, thread = static_cast<int>(thread_x()) % 128;
    std::uint32_t a[kRateFragments][4], metadata[kRateFragments];
SC_UNROLL
    for (int i = 0; i < kRateFragments; ++i) {
        metadata[i] = args.metadata[i * 128 + thread];
SC_UNROLL
        for (int word = 0; word < 4; ++word) a[i][word] = args.fragments[(i * 4 + word) * 128 + thread];
    }
    float sums[kRateColumns / 2] = {};
    wait_phase(&shared.ready, 0);
    for (std::int64_t tile = 0; tile < args.tiles; ++tile) {
        const int stage = static_cast<int>(tile % kRateStages);
        const std::int64_t round = R::kFills ? tile / kRateStages : 0;
        wait_phase(&shared.full[stage], static_cast<int>(round % 2));
        multiply_stage<R>(shared, consumer, stage, a, metadata, sums);
        wait_products<1>(sums);
        if (R::kFills && tile > 0 && thread % kWarpSize == 0) arrive(&shared.empty[(tile - 1) % kRateStages]);
    }
    wait_products<0>(sums);
    float* out = args.out + ((static_cast<std::int64_t>(block_x()) * kRateConsumers + consumer) * 128 + thread) * (kRateColumns / 2);
SC_UNROLL
    for (int i = 0; i < kRateColumns / 2; ++i) out[i] = sums[i];
}

// Grid: one block a multiprocessor. a_map: [consumers x 64, 64] in boxes of 64 rows, b_map: [stages x 256, 64] in boxes of 256.
template <class R>
SC_GLOBAL void SC_BOUNDS(kRateThreads, 1) sm90_rate(RateArgs args, SC_TENSOR_MAP a_map, SC_TENSOR_MAP b_map) {
    auto& shared = shared_memory<RateShared<R>>();
    if (thread_x() == 0) {
        for (int stage = 0; stage < kRateStages; ++stage) {
            init_mbarrier(&shared.full[stage], 1);
            init_mbarrier(&shared.empty[stage], kRateConsumers * 4);
        }
        init_mbarrier(&shared.ready, 1);
        fence_mbarrier_init();
    }
    block_barrier();
    if (thread_x() < 128) return feed<R>(args, shared, &a_map, &b_map);
    multiply_tiles<R>(args, shared);
}

}  // namespace sparsecore::cuda
