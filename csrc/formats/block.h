// Block sparsity (BSR): the weight [rows, cols] is cut into blocks of r x c; a block with any non-zero is kept whole.
// `blocks` [count, r, c] in row-major block order, zero padded at the ragged right and lower edge; `block_cols` int32
// [count] block column of each, strictly ascending in a block row; `block_row_offsets` int64 [ceil(rows / r) + 1].
#pragma once

#include <cstdint>

#include "core/span.h"

namespace sparsecore::formats {

void block_check_pattern(int64_t r, int64_t c);
int64_t block_count(const core::Span& dense, int64_t r, int64_t c);  // blocks with a non-zero
void block_pack(const core::Span& dense, int64_t r, int64_t c, const core::Span& blocks, const core::Span& block_cols,
                const core::Span& block_row_offsets);
void block_unpack(const core::Span& blocks, const core::Span& block_cols, const core::Span& block_row_offsets,
                  const core::Span& dense);
// Offsets ascend from 0 to the number of blocks, columns ascend inside the matrix (else IndexTableError), padding is
// zero (else PatternError).
void block_validate(const core::Span& blocks, const core::Span& block_cols, const core::Span& block_row_offsets,
                    int64_t rows, int64_t cols);

}  // namespace sparsecore::formats
