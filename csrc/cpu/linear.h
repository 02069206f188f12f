// out = activation(x W^T + bias) for a sparse W [rows, cols] in any resident layout.
#pragma once

#include <string>

#include "core/span.h"

namespace sparsecore::cpu {

// Checks everything in O(1) and runs the kernel of the weight's layout; its instruction set must be allowed by
// runtime_isa(), else ResidentError. x [tokens, cols] and out [tokens, rows] of any strides, bias [rows] or null, all
// of the weight's element type; fp32 sums, one rounding; same bits for every number of threads. A quantised weight takes
// any float type for x and out, and that type or fp32 for the bias; its sums are exact, and rounded to fp32 once.
void packed_linear(const core::Span& x, const core::Span& resident, const core::Span* bias, const core::Span& out,
                   const std::string& activation, int threads);

}  // namespace sparsecore::cpu
