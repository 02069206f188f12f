// A weight in a CUDA layout made dense on the device, in stream order: for layers with many tokens, which torch's dense product computes
// faster, and for gradients.
#pragma once

#include <cstdint>

#include "core/span.h"
#include "cuda/expand/args.h"
#include "cuda/expand/repair.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

struct ExpandCall {
    ExpandLayout layout;
    ExpandArgs args;
};

// Checks a call; nothing is read through the spans, whose pointers are device memory. `geometry` is the weight's, out dense [rows, cols]
// of its type, without gaps; quantised values without their scales. layout: the one in the weight's header. marks_pruned: see expand/word.h; the values are those of the weight but for the signs of zeros.
ExpandCall expand_call(const formats::Geometry& geometry, uint32_t layout, const core::Span& resident, const core::Span& out,
                       bool marks_pruned);
void expand_launch(const ExpandCall& call, core::DType dtype, uint64_t stream);

// Checks the repair of out [i, j] = sum of a [i, k] * weight [j, k] (+ bias [j]), all of one float type, a and weight of any strides.
RepairArgs repair_call(const core::Span& a, const core::Span& weight, const core::Span* bias, const core::Span& out);
void repair_launch(const RepairArgs& args, core::DType dtype, uint64_t stream);

}  // namespace sparsecore::cuda
