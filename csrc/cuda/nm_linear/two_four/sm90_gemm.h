// 2:4 linear layer of 16-bit elements for many tokens on Hopper (sm_90a), by wgmma.sp m64nNk32.
//
// A block computes 128 rows x kTokens tokens (sm90_block.h). Floor: half the time of dense products; 8192^3 takes 556 us at 1979 T
// multiplications and additions a second, 989 T of which are done. A tile of 64 columns takes a dense layer 1024 clocks, some 1285 at the
// share of the peak that dense layers reach (788 TFLOP/s), and this one 770, what shared memory needs, where clusters of four save L2.
#pragma once

#include "cuda/nm_linear/two_four/sm90_block.h"
#include "cuda/nm_linear/two_four/tiles.h"

namespace sparsecore::cuda {

template <int kBlockTokens>
struct Sm90Shared {
    static constexpr int kTokens = kBlockTokens, kStages = kSm90Stages;
    union {
        std::uint16_t x[kSm90Stages][kTokens][kTileColumns];  // a stage is a multiple of 1024 bytes
        StagedSums<float, kSm90Rows> sums[kTokens];
    };
    MBarrier full[kSm90Stages], empty[kSm90Stages];

    // Queues the products of the tile that is in `stage`.
    template <class T>
    SC_DEVICE void multiply(int stage, const TwoFourTile& weights, float (&sums)[kTokens / 2]) const {
        multiply_sparse_async<T, kTokens, 0>(sums, weights.halves[0].word, tile_descriptor(&x[stage][0][0]), weights.metadata);
        multiply_sparse_async<T, kTokens, 1>(sums, weights.halves[1].word, tile_descriptor(&x[stage][0][32]), weights.metadata);
    }
};

// For any shared memory that has a ring of tiles, their products and a place for sums, as Sm90Shared.
template <class T, class Shared>
SC_DEVICE void consume(const TwoFourArgs& a, Shared& shared) {
    take_registers<232>();
    float sums[Shared::kTokens / 2] = {};
    multiply_tiles<TwoFourTiles<T>>(a, shared, sums);
    stage_sums(shared.sums, sums);
    write_results<T, kSm90Consumers>(a, shared.sums, static_cast<int>(thread_x()) - 128, std::int64_t{block_x()} * kSm90Rows,
                                     std::int64_t{block_y()} * Shared::kTokens);
}

// Grid: x = blocks of 128 rows up to a multiple of the cluster's size, y = blocks of kTokens tokens. Block: kSm90Threads. `map`: x as a
// matrix [tokens, cols] with boxes of (kTokens over the cluster's size) x 64. There is at least one column tile.
template <class T, int kTokens>
SC_GLOBAL void SC_BOUNDS(kSm90Threads, 1) sm90_two_four_gemm(TwoFourArgs a, SC_TENSOR_MAP map) {
    auto& shared = shared_memory<Sm90Shared<kTokens>>();
    init_ring(shared, 1);
    if (thread_x() < 128) {
        produce(a, &map, shared);
    } else {
        consume<T>(a, shared);
    }
    cluster_barrier();  // others arrive at this block's barriers until they are done
}

}  // namespace sparsecore::cuda
