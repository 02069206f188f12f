// 2:4 linear layer of bytes for many tokens on Hopper (sm_90a), by wgmma.sp m64nNk64: int8 with exact sums, or fp8 (E4M3) with fp32 sums as
// Hopper adds them; then sum * (x scale * weight scale) + bias in fp32.
//
// The block of the 16-bit kernel (two_four/sm90_gemm.h), 128 rows x kTokens tokens with weights in registers, on tiles that have twice the
// columns in the same bytes. Blocks of a cluster have other rows and the same tokens: each brings its share of a tile of activations for
// all of them, so that L2 is read once a cluster. A stage is filled again when all blocks have freed it, and a block ends with its cluster.
//
// Floor: a quarter of the time of dense 16-bit products; 8192^3 takes 278 us at 1979 T multiplications and additions a second that
// are done of 3958 that count. In clocks of a multiprocessor of an H200 for 128 rows x 256 tokens x 128 columns, by data sheets and not
// measured:
//   wgmma.sp            512 (dense products of bytes: 1024, some 1280 at the share of their peak that dense layers reach)
//   shared memory       768 (32 KB of x written, 64 KB read by the products)
//   L2, at 24 to 30 B   1400 to 1750 without clusters (32 KB of x, 10 KB of weights), 890 to 1100 in pairs, 610 to 770 in clusters of four
// So clusters of four are taken where the rows fill them. The sums leave through shared memory, four rows of a token at a time: some
// 1500 clocks, 4 % of a block of 8192 columns.
#pragma once

#include "core/dtype.h"
#include "cuda/nm_linear/int8/args.h"
#include "cuda/nm_linear/two_four/sm90_gemm.h"
#include "cuda/ptx/arithmetic.h"
#include "cuda/ptx/cluster.h"
#include "cuda/ptx/wgmma_bytes.h"

namespace sparsecore::cuda {

constexpr int kSm90ByteStages = 6, kSm90ByteColumns = 128;  // of a tile, in as many bytes

// What depends on the element.
template <class T>
struct Sm90Element;

template <>
struct Sm90Element<I8> {
    using Sum = std::int32_t;

    template <int kTokens>
    static SC_DEVICE void multiply(Sum (&sums)[kTokens / 2], const Words4& a, TileDescriptor b, std::uint32_t metadata) {
        multiply_sparse_bytes_async<kTokens>(sums, a.word, b, metadata);
    }
};

template <>
struct Sm90Element<E4M3> {
    using Sum = float;

    template <int kTokens>
    static SC_DEVICE void multiply(Sum (&sums)[kTokens / 2], const Words4& a, TileDescriptor b, std::uint32_t metadata) {
        multiply_sparse_e4m3_async<kTokens>(sums, a.word, b, metadata);
    }
};

template <class T, int kTokens>
struct Sm90ByteShared {
    using Sum = typename Sm90Element<T>::Sum;

    union {
        unsigned char x[kSm90ByteStages][kTokens][kSm90ByteColumns];  // a stage is a multiple of 1024 bytes
        Sum sums[kTokens][kSm90Rows + 4];                             // the padding keeps the lanes' stores in different banks
    };
    float x_scales[kTokens];
    MBarrier full[kSm90ByteStages], empty[kSm90ByteStages];
};

// Stages are filled in turn; each round turns the parity of their barriers.
struct RingPlace {
    int stage = 0, parity = 0;

    SC_DEVICE void step() {
        stage = stage + 1 == kSm90ByteStages ? 0 : stage + 1;
        parity ^= stage == 0;
    }
};

// One warp's 16 rows and 128 columns, as layout.h gives them to a lane.
struct Sm90ByteTile {
    Words4 halves[2];
    std::uint32_t metadata[2];
};

// Brings this block's share of each tile to all blocks of the cluster.
template <class T, int kTokens>
SC_DEVICE void produce_bytes(const Int8Args& a, const TensorMap* map, Sm90ByteShared<T, kTokens>& shared) {
    give_registers<40>();
    if (thread_x() != 0) return;
    const int share = kTokens / static_cast<int>(cluster_size()), first = static_cast<int>(cluster_rank()) * share;
    const int token = static_cast<int>(block_y()) * kTokens + first;
    RingPlace place;
    for (std::int64_t tile = 0; tile < a.call.column_tiles; ++tile) {
        wait_phase(&shared.empty[place.stage], place.parity ^ 1);  // at once in the first round
        arrive_expecting(&shared.full[place.stage], sizeof shared.x[0]);
        // The map counts elements of two bytes, which are only moved.
        copy_tile_to_cluster(&shared.x[place.stage][first], map, static_cast<int>(tile * (kSm90ByteColumns / 2)), token, &shared.full[place.stage]);
        place.step();
    }
}

// Multiplies the tile in `place`; behind it the products of the tile before are done, and its stage is free in all blocks.
template <class T, int kTokens>
SC_DEVICE void multiply_bytes_tile(Sm90ByteShared<T, kTokens>& shared, RingPlace place, bool first, const Sm90ByteTile& weights,
                                   typename Sm90Element<T>::Sum (&sums)[kTokens / 2]) {
    wait_phase(&shared.full[place.stage], place.parity);
    fence_accumulators();
SC_UNROLL
    for (int half = 0; half < 2; ++half) {
        const TileDescriptor x = tile_descriptor(&shared.x[place.stage][0][half * (kSm90ByteColumns / 2)]);
        Sm90Element<T>::template multiply<kTokens>(sums, weights.halves[half], x, weights.metadata[half]);
    }
    commit_products();
    wait_products<1>(sums);
    const unsigned lane = thread_x() % kWarpSize;
    const int before = place.stage == 0 ? kSm90ByteStages - 1 : place.stage - 1;
    if (!first && lane < cluster_size()) arrive_in_block(&shared.empty[before], lane);
}

template <class T, int kTokens>
SC_DEVICE void multiply_bytes_tiles(const TwoFourArgs& a, Sm90ByteShared<T, kTokens>& shared,
                                    typename Sm90Element<T>::Sum (&sums)[kTokens / 2]) {
    const int warp = (static_cast<int>(thread_x()) - 128) / kWarpSize, lane = static_cast<int>(thread_x() % kWarpSize);
    std::int64_t row_tile = static_cast<std::int64_t>(block_x()) * kSm90ConsumerWarps + warp;
    row_tile = row_tile < a.row_tiles ? row_tile : a.row_tiles - 1;  // what it gives is not stored
    const std::int64_t start = row_tile * a.column_tiles * 2 * kWarpSize + lane;
    const auto* values = static_cast<const Words4*>(a.values) + start;
    const std::uint32_t* metadata = a.metadata + start;
    // Tiles beyond the last one repeat it; they are not multiplied.
    const auto load = [&](std::int64_t tile) -> Sm90ByteTile {
        const std::int64_t place = (tile < a.column_tiles ? tile : a.column_tiles - 1) * (2 * kWarpSize);
        return {{values[place], values[place + kWarpSize]}, {metadata[place], metadata[place + kWarpSize]}};
    };
    Sm90ByteTile weights[kSm90WeightTiles];
SC_UNROLL
    for (int i = 0; i < kSm90WeightTiles - 1; ++i) weights[i] = load(i);
    RingPlace place;
    for (std::int64_t first = 0; first < a.column_tiles; first += kSm90WeightTiles) {
SC_UNROLL
        for (int i = 0; i < kSm90WeightTiles; ++i) {
            const std::int64_t tile = first + i;
            if (tile == a.column_tiles) break;
            multiply_bytes_tile<T, kTokens>(shared, place, tile == 0, weights[i], sums);
            place.step();
            // The products of the tile before are done: its registers take the one that is multiplied last from now.
            weights[(i + kSm90WeightTiles - 1) % kSm90WeightTiles] = load(tile + kSm90WeightTiles - 1);
        }
    }
    wait_products<0>(sums);
}

// An element of an array of type F32, F16 or BF16.
SC_DEVICE float load_as(core::DType type, const void* data, std::int64_t index) {
    if (type == core::DType::F32) return static_cast<const float*>(data)[index];
    const std::uint16_t bits = static_cast<const std::uint16_t*>(data)[index];
    return type == core::DType::F16 ? to_float(F16{bits}) : to_float(BF16{bits});
}

// Results of four rows of a token, or of the first `count` of them, whose places are `step` apart.
template <class T>
SC_DEVICE void store_rows(T* out, std::int64_t step, bool in_units, int count, const float (&results)[4]) {
    if (in_units && count >= 4) {
        if constexpr (sizeof(T) == 4) {
            *reinterpret_cast<Words4*>(out) = {{float_bits(results[0]), float_bits(results[1]), float_bits(results[2]), float_bits(results[3])}};
        } else {
            *reinterpret_cast<Words2*>(out) = {{pack_pair<T>(results[0], results[1]), pack_pair<T>(results[2], results[3])}};
        }
        return;
    }
SC_UNROLL
    for (int i = 0; i < 4; ++i) {
        if (i < count) store(out + i * step, results[i]);
    }
}

// `type`: of x and out. A thread has four rows, a warp one token at a time.
template <class T, int kTokens>
SC_DEVICE void write_scaled_tile(const Int8Args& a, core::DType type, const Sm90ByteShared<T, kTokens>& shared) {
    const TwoFourArgs& call = a.call;
    const int thread = static_cast<int>(thread_x()) - 128, own = thread % kWarpSize * 4;
    const std::int64_t row = static_cast<std::int64_t>(block_x()) * kSm90Rows + own, first_token = static_cast<std::int64_t>(block_y()) * kTokens;
    const int count = call.rows - row < 4 ? static_cast<int>(call.rows - row) : 4;
    if (count <= 0) return;
    float scale[4], bias[4];
SC_UNROLL
    for (int i = 0; i < 4; ++i) {
        scale[i] = i < count ? a.scales[row + i] : 0.0f;
        const bool biased = call.bias != nullptr && i < count;
        bias[i] = biased ? load_as(a.bias_is_float ? core::DType::F32 : type, call.bias, (row + i) * call.bias_stride) : 0.0f;
    }
    for (int t = thread / kWarpSize; t < kTokens && first_token + t < call.tokens; t += kSm90ConsumerWarps) {
        float results[4];
SC_UNROLL
        for (int i = 0; i < 4; ++i) {
            const float sum = static_cast<float>(shared.sums[t][own + i]) * (shared.x_scales[t] * scale[i]);
            results[i] = cuda::activate(sum + bias[i], call.activation);
        }
        const std::int64_t at = (first_token + t) * call.out_token_stride + row * call.out_row_stride;
        if (type == core::DType::F32) {
            store_rows(static_cast<F32*>(call.out) + at, call.out_row_stride, call.out_in_units, count, results);
        } else if (type == core::DType::F16) {
            store_rows(static_cast<F16*>(call.out) + at, call.out_row_stride, call.out_in_units, count, results);
        } else {
            store_rows(static_cast<BF16*>(call.out) + at, call.out_row_stride, call.out_in_units, count, results);
        }
    }
}

template <class T, int kTokens>
SC_DEVICE void consume_bytes(const Int8Args& a, core::DType type, Sm90ByteShared<T, kTokens>& shared) {
    take_registers<232>();
    const int thread = static_cast<int>(thread_x()) - 128, lane = thread % kWarpSize;
    const std::int64_t token = static_cast<std::int64_t>(block_y()) * kTokens + thread;
    if (thread < kTokens && token < a.call.tokens) shared.x_scales[thread] = a.x_scales[token];
    typename Sm90Element<T>::Sum sums[kTokens / 2] = {};
    multiply_bytes_tiles<T, kTokens>(a.call, shared, sums);
    named_barrier(kConsumerBarrier, kSm90Consumers);  // the ring is not read any more
SC_UNROLL
    for (int i = 0; i < kTokens / 2; ++i) {
        const int row = thread / kWarpSize * kTileRows + i / 2 % 2 * 8 + lane / 4;
        shared.sums[i / 4 * 8 + lane % 4 * 2 + i % 2][row] = sums[i];
    }
    named_barrier(kConsumerBarrier, kSm90Consumers);
    write_scaled_tile<T, kTokens>(a, type, shared);
}

// T: of the weight and of q, I8 or E4M3; `type`: of x and out. Grid: x = blocks of 128 rows up to a multiple of the cluster's size, y =
// blocks of kTokens tokens. Block: kSm90Threads. `map`: q as a matrix [tokens, q_stride / 2] of elements of two bytes, with boxes of
// (kTokens over the cluster's size) x 64. There is at least one column tile.
template <class T, int kTokens>
SC_GLOBAL void SC_BOUNDS(kSm90Threads, 1) sm90_byte_gemm(Int8Args a, core::DType type, SC_TENSOR_MAP map) {
    auto& shared = shared_memory<Sm90ByteShared<T, kTokens>>();
    if (thread_x() == 0) {
        for (int stage = 0; stage < kSm90ByteStages; ++stage) {
            init_mbarrier(&shared.full[stage], 1);
            init_mbarrier(&shared.empty[stage], kSm90ConsumerWarps * static_cast<int>(cluster_size()));
        }
        fence_mbarrier_init();
    }
    cluster_barrier();
    if (thread_x() < 128) {
        produce_bytes<T, kTokens>(a, &map, shared);
    } else {
        consume_bytes<T, kTokens>(a, type, shared);
    }
    cluster_barrier();  // others arrive at this block's barriers until they are done
}

}  // namespace sparsecore::cuda
