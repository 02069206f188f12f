// Layout 2, for blocks of fewer than 8 rows: the weight row by row as values with their columns, which the AVX-512 kernel
// of unstructured weights runs. The zeros of a kept block are kept as well.
#pragma once

#include "cpu/layout.h"

namespace sparsecore::cpu {

constexpr int64_t kNarrowRows = 8;

Layout block_rows_layout();

}  // namespace sparsecore::cpu
