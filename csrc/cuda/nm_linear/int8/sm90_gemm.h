// 2:4 linear layer of bytes for many tokens on Hopper (sm_90a), by wgmma.sp m64nNk64: int8 with exact sums, or fp8 (E4M3) with fp32 sums as
// Hopper adds them; then sum * (x scale * weight scale) + bias in fp32.
//
// A block computes 128 rows x kTokens tokens (two_four/sm90_block.h) on tiles of 128 columns. Floor: half the time of dense products of
// bytes; 8192^3 takes 278 us at 3958 T multiplications and additions a second, 1979 T of which are done. A tile takes a dense layer 1024
// clocks, some 1280 at the share of the peak that dense layers reach, and this one 770, what shared memory needs, where clusters of four
// save L2. The sums leave through shared memory, four rows of a token at a time: some 1500 clocks, 3 % of a block of 8192 columns.
#pragma once

#include "core/dtype.h"
#include "cuda/nm_linear/int8/args.h"
#include "cuda/nm_linear/int8/weight_tiles.h"
#include "cuda/nm_linear/two_four/sm90_block.h"
#include "cuda/ptx/wgmma_bytes.h"

namespace sparsecore::cuda {

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

template <class T>
struct Sm90ByteTiles : ByteWeightTiles {
    using Element = T;
};

template <class E, int kBlockTokens>
struct Sm90ByteShared {
    using Sum = typename Sm90Element<E>::Sum;
    static constexpr int kTokens = kBlockTokens, kStages = kSm90Stages, kColumns = 128;

    union {
        unsigned char x[kStages][kTokens][kColumns];  // a stage is a multiple of 1024 bytes
        StagedSums<Sum, kSm90Rows> sums[kTokens];
    };
    float x_scales[kTokens];
    MBarrier full[kStages], empty[kStages];

    template <class T>
    SC_DEVICE void multiply(int stage, const ByteTile& weights, Sum (&result)[kTokens / 2]) const {
SC_UNROLL
        for (int half = 0; half < 2; ++half) {
            const TileDescriptor columns = tile_descriptor(&x[stage][0][half * (kColumns / 2)]);
            Sm90Element<T>::template multiply<kTokens>(result, weights.halves[half], columns, weights.metadata[half]);
        }
    }
};

// An element of an array of type F32, F16 or BF16.
SC_DEVICE float load_as(core::DType type, const void* data, std::int64_t index) {
    if (type == core::DType::F32) return static_cast<const float*>(data)[index];
    const std::uint16_t bits = static_cast<const std::uint16_t*>(data)[index];
    return type == core::DType::F16 ? to_float(F16{bits}) : to_float(BF16{bits});
}

// `type`: of x and out. A thread has four rows, a warp one token at a time.
template <class T, int kTokens>
SC_DEVICE void write_scaled_tile(const Int8Args& a, core::DType type, const Sm90ByteShared<T, kTokens>& shared) {
    const TwoFourArgs& call = a.call;
    const int warp = (static_cast<int>(thread_x()) - 128) / kWarpSize, lane = static_cast<int>(thread_x() % kWarpSize);
    const std::int64_t row = static_cast<std::int64_t>(block_x()) * kSm90Rows + lane * kResultRows;
    const std::int64_t first_token = static_cast<std::int64_t>(block_y()) * kTokens;
    const int count = rows_from(call, row);
    if (count <= 0) return;
    float scale[4], bias[4];
SC_UNROLL
    for (int i = 0; i < 4; ++i) {
        scale[i] = i < count ? a.scales[row + i] : 0.0f;
        const bool biased = call.bias != nullptr && i < count;
        bias[i] = biased ? load_as(a.bias_is_float ? core::DType::F32 : type, call.bias, (row + i) * call.bias_stride) : 0.0f;
    }
    for (int t = warp; t < kTokens && first_token + t < call.tokens; t += kSm90ConsumerWarps) {
        const auto sums = shared.sums[t].four[lane];
        float results[4];
SC_UNROLL
        for (int i = 0; i < 4; ++i) {
            const float sum = static_cast<float>(sums.row[i]) * (shared.x_scales[t] * scale[i]);
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
    const int thread = static_cast<int>(thread_x()) - 128;
    const std::int64_t token = static_cast<std::int64_t>(block_y()) * kTokens + thread;
    if (thread < kTokens && token < a.call.tokens) shared.x_scales[thread] = a.x_scales[token];
    typename Sm90Element<T>::Sum sums[kTokens / 2] = {};
    multiply_tiles<Sm90ByteTiles<T>>(a.call, shared, sums);
    stage_sums(shared.sums, sums);
    write_scaled_tile<T, kTokens>(a, type, shared);
}

// T: of the weight and of q, I8 or E4M3; `type`: of x and out. Grid: x = blocks of 128 rows up to a multiple of the cluster's size, y =
// blocks of kTokens tokens. Block: kSm90Threads. `map`: q as a matrix [tokens, q_stride / 2] of elements of two bytes, with boxes of
// (kTokens over the cluster's size) x 64. There is at least one column tile.
template <class T, int kTokens>
SC_GLOBAL void SC_BOUNDS(kSm90Threads, 1) sm90_byte_gemm(Int8Args a, core::DType type, SC_TENSOR_MAP map) {
    auto& shared = shared_memory<Sm90ByteShared<T, kTokens>>();
    init_ring(shared, 1);
    if (thread_x() < 128) {
        produce(a.call, &map, shared);
    } else {
        consume_bytes<T, kTokens>(a, type, shared);
    }
    cluster_barrier();  // others arrive at this block's barriers until they are done
}

}  // namespace sparsecore::cuda
