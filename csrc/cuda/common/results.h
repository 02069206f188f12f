// The way out of the kernels for many tokens: sums through shared memory, so that results of a token are written together.
//
// Loops over what lies there are short in code, which a switch over activations for every sum in registers is not.
#pragma once

#include "cuda/common/linear_io.h"
#include "cuda/ptx/arithmetic.h"

namespace sparsecore::cuda {

constexpr int kResultRows = 4;  // of a thread

template <class Sum>
struct alignas(16) FourSums {
    Sum row[kResultRows];
};

// Sums of a block's rows for one token. The padding keeps the stores of a warp's fragments in different banks.
template <class Sum, int kRows>
struct StagedSums {
    FourSums<Sum> four[kRows / kResultRows + 1];

    SC_DEVICE Sum& at(int row) { return four[row / kResultRows].row[row % kResultRows]; }
    SC_DEVICE const Sum& at(int row) const { return four[row / kResultRows].row[row % kResultRows]; }
};

// Those of a warpgroup, or of several with 64 rows each, in the order of wgmma (ptx/wgmma.h): of kTokens tokens from kFirst on.
template <int kFirst, class Sum, int kRows, int kTokens, int kCount>
SC_DEVICE void stage_sums(StagedSums<Sum, kRows> (&staged)[kTokens], int thread, const Sum (&sums)[kCount]) {
    const int lane = thread % kWarpSize;
SC_UNROLL
    for (int i = 0; i < kTokens / 2; ++i) {
        const int row = thread / kWarpSize * 16 + i / 2 % 2 * 8 + lane / 4;
        staged[i / 4 * 8 + lane % 4 * 2 + i % 2].at(row) = sums[kFirst / 2 + i];
    }
}

// How many of a thread's rows the weight has.
SC_DEVICE int rows_from(const LinearArgs& a, std::int64_t row) {
    return a.rows - row < kResultRows ? static_cast<int>(a.rows - row) : kResultRows;
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

// Bias and activation in fp32, and one rounding, for kRows rows from `first_row` on and kTokens tokens from `first_token` on.
template <class T, int kThreads, int kTokens, int kRows>
SC_DEVICE void write_results(const LinearArgs& a, const StagedSums<float, kRows> (&staged)[kTokens], int thread, std::int64_t first_row,
                             std::int64_t first_token) {
    constexpr int kFours = kRows / kResultRows;
    const std::int64_t row = first_row + thread % kFours * kResultRows;
    const int count = rows_from(a, row);
    if (count <= 0) return;
    float bias[kResultRows];
SC_UNROLL
    for (int i = 0; i < kResultRows; ++i) bias[i] = load_bias<T>(a, row + i);
    for (int t = thread / kFours; t < kTokens && first_token + t < a.tokens; t += kThreads / kFours) {
        const FourSums<float> sums = staged[t].four[thread % kFours];
        float results[kResultRows];
SC_UNROLL
        for (int i = 0; i < kResultRows; ++i) results[i] = cuda::activate(sums.row[i] + bias[i], a.activation);
        T* out = static_cast<T*>(a.out) + (first_token + t) * a.out_token_stride + row * a.out_row_stride;
        store_rows(out, a.out_row_stride, a.out_in_units, count, results);
    }
}

}  // namespace sparsecore::cuda
