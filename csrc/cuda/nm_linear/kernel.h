// N:M sparse linear layer for few tokens: out[t, r] = act(sum over kept j of value[r, j] * x[t, column(r, j)] + bias[r]).
//
// One warp computes one output row for kTokens tokens. A lane takes chunks of 8 kept values (lane, lane + 32, ...), so
// that a warp reads consecutive 16-byte (fp16, bf16) or 32-byte (fp32) pieces of the weight; the position of a value
// inside its group is a code of 1, 2, 4 or 8 bits. Sums are fp32; the lanes' sums are added by a fixed butterfly, so the
// result does not depend on scheduling. Pruned positions are never read: they contribute nothing, even where x is inf or NaN.
#pragma once

#include "cuda/common/linear_io.h"
#include "cuda/nm_linear/kernel_args.h"
#include "cuda/ptx/warp.h"

namespace sparsecore::cuda {

template <class T>
struct alignas(sizeof(T) * kChunk > 16 ? 16 : sizeof(T) * kChunk) Chunk {
    T element[kChunk];
};

// The codes of one chunk fill exactly `code_bits` bytes, whose address is a multiple of that.
SC_DEVICE std::uint64_t load_codes(const std::uint8_t* where, int code_bits) {
    switch (code_bits) {
        case 1:
            return *where;
        case 2:
            return *reinterpret_cast<const std::uint16_t*>(where);
        case 4:
            return *reinterpret_cast<const std::uint32_t*>(where);
        default:
            return *reinterpret_cast<const std::uint64_t*>(where);
    }
}

template <class T, int kTokens>
SC_DEVICE void add_chunk(const NmLinearArgs& a, std::int64_t row, std::int64_t chunk, std::int64_t token, float* sum) {
    const Chunk<T> weights = static_cast<const Chunk<T>*>(a.values)[row * a.chunks + chunk];
    std::uint64_t codes = load_codes(a.codes + (row * a.chunks + chunk) * a.code_bits, a.code_bits);
    const std::uint64_t code_mask = (std::uint64_t{1} << a.code_bits) - 1;
    const std::int64_t first = chunk * kChunk;
    std::int64_t group_column = first / a.n * a.m;
    int in_group = static_cast<int>(first % a.n);
    const T* x = static_cast<const T*>(a.x);
SC_UNROLL
    for (int i = 0; i < kChunk; ++i) {
        if (first + i < a.kept) {
            // The clamp keeps a damaged weight from reading outside x; a valid one never meets it.
            std::int64_t column = group_column + static_cast<std::int64_t>(codes & code_mask);
            column = column < a.cols ? column : a.cols - 1;
            const float weight = to_float(weights.element[i]);
SC_UNROLL
            for (int t = 0; t < kTokens; ++t) {
                if (token + t < a.tokens) {
                    sum[t] += weight * to_float(x[(token + t) * a.x_token_stride + column * a.x_column_stride]);
                }
            }
        }
        codes >>= a.code_bits;
        if (++in_group == a.n) {
            in_group = 0;
            group_column += a.m;
        }
    }
}

template <class T, int kTokens>
SC_DEVICE void reduce_and_store(const NmLinearArgs& a, std::int64_t row, std::int64_t token, int lane, float* sum) {
SC_UNROLL
    for (int t = 0; t < kTokens; ++t) {
SC_UNROLL
        for (int step = kWarpSize / 2; step > 0; step /= 2) sum[t] += shuffle_xor(sum[t], step);
        if (lane == t && token + t < a.tokens) {
            store_result<T>(a, token + t, row, sum[t]);
        }
    }
}

// Grid: x = ceil(rows / kWarpsPerBlock), y = any number of token tiles (the rest is looped over).
// Block: kWarpsPerBlock * 32 threads.
template <class T, int kTokens>
SC_GLOBAL void nm_linear_kernel(NmLinearArgs a) {
    const int lane = static_cast<int>(thread_x() % kWarpSize);
    const std::int64_t row = static_cast<std::int64_t>(block_x()) * kWarpsPerBlock + thread_x() / kWarpSize;
    if (row >= a.rows) return;
    for (std::int64_t tile = block_y(); tile * kTokens < a.tokens; tile += grid_dim_y()) {
        float sum[kTokens] = {};
        for (std::int64_t chunk = lane; chunk < a.chunks; chunk += kWarpSize) {
            add_chunk<T, kTokens>(a, row, chunk, tile * kTokens, sum);
        }
        reduce_and_store<T, kTokens>(a, row, tile * kTokens, lane, sum);
    }
}

}  // namespace sparsecore::cuda
