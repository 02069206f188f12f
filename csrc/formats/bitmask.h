// Unstructured sparsity, as compressed-tensors' sparse-bitmask: `compressed` holds the non-zero values in row-major
// order, `bitmask` one bit a position (little bit order, rows start on a byte), `row_offsets` int64 [rows] where each
// row starts in `compressed`. Zeros of either sign are pruned.
#pragma once

#include <cstdint>

#include "core/span.h"

namespace sparsecore::formats {

int64_t bitmask_count(const core::Span& dense);  // non-zero values of dense [rows, cols]
void bitmask_pack(const core::Span& dense, const core::Span& compressed, const core::Span& bitmask,
                  const core::Span& row_offsets);
void bitmask_unpack(const core::Span& compressed, const core::Span& bitmask, const core::Span& row_offsets,
                    const core::Span& dense);
// Bits, offsets and the number of values agree and padding bits are zero, else IndexTableError.
void bitmask_validate(const core::Span& compressed, const core::Span& bitmask, const core::Span& row_offsets,
                      int64_t cols);

}  // namespace sparsecore::formats
