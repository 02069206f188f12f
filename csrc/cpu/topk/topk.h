// The k largest of every row. NaN is larger than every number, -0 equals +0, equal values go to the lower index first,
// and the chosen ones are given in ascending index order: the result is one set, whatever the machine or the threads.
#pragma once

#include <cstdint>

#include "core/span.h"

namespace sparsecore::cpu {

// x [rows, n] -> values [rows, k] (the elements' own bits) and indices int64 [rows, k], any strides, x in f32, f16
// or bf16. ShapeError unless 0 <= k <= n; DtypeError, SpanError, AliasingError for the rest.
void topk_select(const core::Span& x, int64_t k, const core::Span& values, const core::Span& indices, int threads);

// out [rows], of the type of x: the k-th largest value of every row, 1 <= k <= n (zero as +0, NaN as a quiet NaN).
void topk_threshold(const core::Span& x, int64_t k, const core::Span& out, int threads);

}  // namespace sparsecore::cpu
