// What a launch of the 2:4 tensor-core kernels takes, in plain data; strides are in elements, pointers are device memory.
#pragma once

#include <cstdint>

#include "cpu/common/epilogue.h"

namespace sparsecore::cuda {

// Weights lie in tiles of 16 rows x 64 columns, in the order in which the lanes of a warp multiply them (layout.h).
constexpr int kTileRows = 16, kTileColumns = 64;
constexpr int kTileValueBytes = kTileRows * kTileColumns / 2 * 2, kTileMetadataWords = 32;

struct TwoFourArgs {
    const void* x;
    const void* values;             // [row tiles, column tiles, kTileValueBytes] bytes
    const std::uint32_t* metadata;  // [row tiles, column tiles, kTileMetadataWords]
    const void* bias;               // [rows] or null, of the element type
    void* out;
    std::int64_t x_token_stride, x_column_stride;
    std::int64_t out_token_stride, out_row_stride;
    std::int64_t bias_stride;
    std::int64_t tokens, rows, cols, row_tiles, column_tiles;
    bool x_in_units;     // every token's columns are consecutive, from a multiple of 16 bytes on
    bool out_in_pairs;   // every token's results are consecutive, from a multiple of 4 bytes on
    cpu::Activation activation;
};

}  // namespace sparsecore::cuda
