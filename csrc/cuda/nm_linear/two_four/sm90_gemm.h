// 2:4 linear layer for many tokens on Hopper (sm_90a), by wgmma.sp.
//
// A block computes 128 rows x kTokens tokens: one warpgroup of producers keeps a ring of activation tiles filled by TMA, two of
// consumers multiply 64 rows each. The weights never pass through shared memory: their fragment order lets every lane load
// its registers from global memory, 16 bytes at a time. Shared memory is what limits sparse products on this GPU (each reads
// 128 bytes of B a clock), so it is left to the activations. A tile of 256 tokens keeps the tensor cores busy for 512 clocks, some
// 300 ns: weights are asked for three tiles ahead, which is longer than a read from memory takes.
#pragma once

#include "cuda/common/activation.h"
#include "cuda/common/element.h"
#include "cuda/nm_linear/two_four/tiles.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma.h"

namespace sparsecore::cuda {

constexpr int kSm90Rows = 128, kSm90Threads = 3 * 128, kSm90Consumers = 2 * 128, kSm90ConsumerWarps = 8;
constexpr int kSm90Stages = 4;
constexpr int kSm90WeightTiles = 4;  // in registers: one is multiplied, the others are on their way
constexpr int kConsumerBarrier = 1;

template <int kBlockTokens>
struct Sm90Shared {
    static constexpr int kTokens = kBlockTokens;
    union {
        std::uint16_t x[kSm90Stages][kTokens][kTileColumns];  // a stage is a multiple of 1024 bytes
        std::uint16_t out[kTokens][kSm90Rows + 8];
    };
    MBarrier full[kSm90Stages], empty[kSm90Stages];

    // Queues the products of the tile that is in `stage`.
    template <class T>
    SC_DEVICE void multiply(int stage, const TwoFourTile& weights, float (&sums)[kTokens / 2]) const {
        multiply_sparse_async<T, kTokens, 0>(sums, weights.halves[0].word, tile_descriptor(&x[stage][0][0]), weights.metadata);
        multiply_sparse_async<T, kTokens, 1>(sums, weights.halves[1].word, tile_descriptor(&x[stage][0][32]), weights.metadata);
    }
};

// `producers`: arrivals that fill a stage.
template <class Shared>
SC_DEVICE void init_ring(Shared& shared, int producers) {
    if (thread_x() == 0) {
        for (int stage = 0; stage < kSm90Stages; ++stage) {
            init_mbarrier(&shared.full[stage], producers);
            init_mbarrier(&shared.empty[stage], kSm90ConsumerWarps);
        }
        fence_mbarrier_init();
    }
    block_barrier();
}

template <int kTokens>
SC_DEVICE void produce(const TwoFourArgs& a, const TensorMap* map, Sm90Shared<kTokens>& shared) {
    give_registers<40>();
    if (thread_x() % 128 != 0) return;
    for (std::int64_t tile = 0; tile < a.column_tiles; ++tile) {
        const int stage = static_cast<int>(tile % kSm90Stages);
        const std::int64_t round = tile / kSm90Stages;
        if (round > 0) wait_phase(&shared.empty[stage], static_cast<int>((round - 1) % 2));
        arrive_expecting(&shared.full[stage], sizeof shared.x[stage]);
        copy_tile(shared.x[stage], map, static_cast<int>(tile * kTileColumns), static_cast<int>(block_y() * kTokens),
                  &shared.full[stage]);
    }
}

// Multiplies one tile, then waits for the products of the tile before and frees its stage.
template <class T, class Shared>
SC_DEVICE void consume_tile(Shared& shared, std::int64_t tile, const TwoFourTile& weights, float (&sums)[Shared::kTokens / 2]) {
    const int stage = static_cast<int>(tile % kSm90Stages);
    wait_phase(&shared.full[stage], static_cast<int>(tile / kSm90Stages % 2));
    fence_accumulators();
    shared.template multiply<T>(stage, weights, sums);
    commit_products();
    wait_products<1>(sums);
    if (tile > 0 && thread_x() % kWarpSize == 0) arrive(&shared.empty[(tile - 1) % kSm90Stages]);
}

// Bias and activation in fp32, one rounding; through shared memory, so that results of a token are written together.
template <class T, class Shared>
SC_DEVICE void write_tile(const TwoFourArgs& a, Shared& shared, const float (&sums)[Shared::kTokens / 2]) {
    constexpr int kTokens = Shared::kTokens;
    const int thread = static_cast<int>(thread_x()) - 128, lane = thread % kWarpSize;
    const std::int64_t first_row = static_cast<std::int64_t>(block_x()) * kSm90Rows;
    named_barrier(kConsumerBarrier, kSm90Consumers);  // the ring is not read any more
SC_UNROLL
    for (int lower = 0; lower < 2; ++lower) {
        const int own = thread / kWarpSize * kTileRows + lower * 8 + lane / 4;
        const bool biased = a.bias != nullptr && first_row + own < a.rows;
        const float bias = biased ? to_float(static_cast<const T*>(a.bias)[(first_row + own) * a.bias_stride]) : 0.0f;
SC_UNROLL
        for (int i = 0; i < kTokens / 4; ++i) {
            const int token = i / 2 * 8 + lane % 4 * 2 + i % 2;
            const float sum = sums[i / 2 * 4 + lower * 2 + i % 2] + bias;
            store(reinterpret_cast<T*>(&shared.out[token][own]), cuda::activate(sum, a.activation));
        }
    }
    named_barrier(kConsumerBarrier, kSm90Consumers);
    write_pairs<kTokens, kSm90Rows, kSm90Consumers>(a, &shared.out[0][0], thread, first_row,
                                                    static_cast<std::int64_t>(block_y()) * kTokens);
}

// For any shared memory that has a ring of tiles, their products and a place for results, as Sm90Shared.
template <class T, class Shared>
SC_DEVICE void consume(const TwoFourArgs& a, Shared& shared) {
    take_registers<232>();
    const int warp = (static_cast<int>(thread_x()) - 128) / kWarpSize;
    std::int64_t row_tile = static_cast<std::int64_t>(block_x()) * kSm90ConsumerWarps + warp;
    row_tile = row_tile < a.row_tiles ? row_tile : a.row_tiles - 1;  // what it gives is not stored
    float sums[Shared::kTokens / 2] = {};
    const auto row = TwoFourTiles<T>::row_tile(a, row_tile);
    // Tiles beyond the last one repeat it; they are not multiplied.
    const auto load = [&](std::int64_t tile) {
        return TwoFourTiles<T>::load(row, static_cast<std::uint32_t>(tile < a.column_tiles ? tile : a.column_tiles - 1));
    };
    TwoFourTile weights[kSm90WeightTiles];
SC_UNROLL
    for (int i = 0; i < kSm90WeightTiles - 1; ++i) weights[i] = load(i);
    for (std::int64_t first = 0; first < a.column_tiles; first += kSm90WeightTiles) {
SC_UNROLL
        for (int i = 0; i < kSm90WeightTiles; ++i) {
            const std::int64_t tile = first + i;
            if (tile == a.column_tiles) break;
            consume_tile<T>(shared, tile, weights[i], sums);
            // The products of the tile before are done: its registers take the one that is multiplied last from now.
            weights[(i + kSm90WeightTiles - 1) % kSm90WeightTiles] = load(tile + kSm90WeightTiles - 1);
        }
    }
    wait_products<0>(sums);
    write_tile<T>(a, shared, sums);
}

// Grid: x = blocks of 128 rows, y = blocks of kTokens tokens. Block: kSm90Threads. `map`: x as a matrix [tokens, cols] with boxes
// of kTokens x 64. There is at least one column tile.
template <class T, int kTokens>
SC_GLOBAL void SC_BOUNDS(kSm90Threads, 1) sm90_two_four_gemm(TwoFourArgs a, SC_TENSOR_MAP map) {
    auto& shared = shared_memory<Sm90Shared<kTokens>>();
    init_ring(shared, 1);
    if (thread_x() < 128) return produce<kTokens>(a, &map, shared);
    consume<T>(a, shared);
}

}  // namespace sparsecore::cuda
