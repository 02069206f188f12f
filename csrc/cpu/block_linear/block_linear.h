// Block-sparse linear layer: a kept block of r x c weights is dense, also its zeros; all else contributes nothing.
//
// Two layouts of the blocks, the index tables being those of csrc/formats/block.h in both:
//   row-major    [count, r, c]: the stored form itself; runs everywhere (portable.cpp)
//   column-major [count, c, r]: one input's weights for all rows of a block are neighbours, which the AVX-512 kernel
//                loads as vectors over the outputs and multiplies by one broadcast activation
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

struct BlockWeight {
    core::DType dtype = core::DType::F32;
    int64_t rows = 0, cols = 0;
    int64_t block_rows = 0, block_cols = 0;  // r and c
    bool column_major = false;
    const void* blocks = nullptr;
    const int32_t* columns = nullptr;      // block column of every block, ascending in a block row
    const int64_t* row_offsets = nullptr;  // [ceil(rows / r) + 1]
};

static inline int64_t block_row_count(const BlockWeight& weight) {
    return weight.rows / weight.block_rows + (weight.rows % weight.block_rows != 0);
}

// Row-major blocks to column-major ones (or back, with r and c exchanged); in and out do not overlap.
void block_transpose(core::DType dtype, int64_t count, int64_t r, int64_t c, const void* in, void* out);

// The index tables are trusted here: they were validated when the weight was made.
void block_linear(const LinearCall& call, const BlockWeight& weight);

}  // namespace sparsecore::cpu
