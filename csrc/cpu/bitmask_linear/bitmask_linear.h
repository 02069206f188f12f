// Linear layer with unstructured sparsity: only non-zero weights contribute.
//
// Two layouts. The stored form (csrc/formats/bitmask.h) runs everywhere: the columns of a row are read from its bitmask.
// The index layout is for AVX-512: values [nnz], their columns (16 bits each where cols <= 65536, else 32) and where
// each row starts, int64 [rows + 1]. A weight that keeps at least 1/4 holds its bitmask as well: with few tokens whole
// vectors of a row are expanded from it, which beats following single indices.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

struct BitmaskWeight {
    core::DType dtype = core::DType::F32;
    int64_t rows = 0, cols = 0, nnz = 0;
    const void* values = nullptr;
    const uint8_t* bitmask = nullptr;      // [rows, ceil(cols / 8)], little bit order; may be null in the index layout
    const void* columns = nullptr;         // index layout: uint16 or uint32 [nnz], ascending in a row
    const int64_t* row_offsets = nullptr;  // [rows] or, index layout, [rows + 1]
};

constexpr int64_t kFewTokens = 3;  // up to here the index layout uses its bitmask, if it has one

static inline bool narrow_columns(int64_t cols) { return cols <= 65536; }

// Columns of every value of a validated bitmask, row by row, into uint16 or uint32 [nnz].
void bitmask_to_columns(const uint8_t* bitmask, int64_t rows, int64_t cols, void* columns);
// The reverse, into a zeroed bitmask.
void columns_to_bitmask(const void* columns, const int64_t* row_offsets, int64_t rows, int64_t cols, uint8_t* bitmask);

void bitmask_linear_stored(const LinearCall& call, const BitmaskWeight& weight);
void bitmask_linear_indexed(const LinearCall& call, const BitmaskWeight& weight);

}  // namespace sparsecore::cpu
