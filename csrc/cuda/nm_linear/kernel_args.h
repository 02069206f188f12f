// What one launch of the N:M linear kernel takes, in plain data; strides are in elements, pointers are device memory.
#pragma once

#include <cstdint>

#include "cpu/common/epilogue.h"

namespace sparsecore::cuda {

constexpr int kChunk = 8;  // kept values that a lane handles at once
constexpr int kWarpsPerBlock = 4;

struct NmLinearArgs {
    const void* x;
    const void* values;         // [rows, chunks * kChunk]
    const std::uint8_t* codes;  // [rows, chunks * code_bits] bytes
    const void* bias;           // [rows] or null, of the element type
    void* out;
    std::int64_t x_token_stride, x_column_stride;
    std::int64_t out_token_stride, out_row_stride;
    std::int64_t bias_stride;
    std::int64_t tokens, rows, cols, kept, chunks;
    int n, m, code_bits;
    cpu::Activation activation;
};

}  // namespace sparsecore::cuda
