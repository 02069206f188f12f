// What every launch of a linear kernel takes beside its weight, in plain data: strides are in elements, pointers device memory.
#pragma once

#include <cstdint>

#include "cpu/common/epilogue.h"

namespace sparsecore::cuda {

// out[t, r] = activation(sum over kept c of weight[r, c] x[t, c] + bias[r]); x, bias and out have the weight's element type.
struct LinearArgs {
    const void* x;
    const void* bias;  // [rows] or null
    void* out;
    std::int64_t x_token_stride, x_column_stride;
    std::int64_t out_token_stride, out_row_stride;
    std::int64_t bias_stride;
    std::int64_t tokens, rows, cols;
    bool x_in_units;    // every token's columns are consecutive, from a multiple of 16 bytes on
    bool out_in_units;  // every token's results are
    cpu::Activation activation;
};

// Whether a tensor map can describe x: strides of one are at least its columns, so no rows that overlap or are one row, repeated.
inline bool has_tensor_map(const LinearArgs& a) { return a.x_in_units && a.x_token_stride >= a.cols; }

}  // namespace sparsecore::cuda
