// Block-sparse linear layer: a kept block of r x c weights is dense, also its zeros; all else contributes nothing.
//
// The index tables are those of csrc/formats/block.h. The values lie in one of two orders:
//   blocks  the stored form, [count][r][c]: portable.cpp, and narrow_loop.h for blocks of fewer than 8 rows
//   bands  (bands.h) all that one band of up to 32 rows keeps, input by input: one input's weights for all rows are
//           neighbours, which a kernel loads as vectors over the outputs and multiplies by one broadcast activation
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

struct BlockWeight {
    core::DType dtype = core::DType::F32;
    int64_t rows = 0, cols = 0;
    int64_t block_rows = 0, block_cols = 0;  // r and c
    const void* values = nullptr;
    const int32_t* columns = nullptr;      // block column of every block, ascending in a block row
    const int64_t* row_offsets = nullptr;  // [ceil(rows / r) + 1]
};

static inline int64_t block_row_count(const BlockWeight& weight) {
    return weight.rows / weight.block_rows + (weight.rows % weight.block_rows != 0);
}
static inline int64_t block_column_count(const BlockWeight& weight) {
    return weight.cols / weight.block_cols + (weight.cols % weight.block_cols != 0);
}

// The index tables are trusted here: they were validated when the weight was made.
void block_linear_stored(const LinearCall& call, const BlockWeight& weight);
// Stored order, with room to read a vector past the values. block_rows < 8; cols and block_cols are at most kNarrowCols,
// because all activations of a vector of tokens are laid out at once.
constexpr int64_t kNarrowCols = 1 << 18;
void block_linear_narrow_avx2(const LinearCall& call, const BlockWeight& weight);
void block_linear_narrow_avx512(const LinearCall& call, const BlockWeight& weight);

}  // namespace sparsecore::cpu
