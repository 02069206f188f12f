// Block-sparse linear on a CUDA device: the resident layout (layout.h), and the launch.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/span.h"
#include "cuda/block_linear/args.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

// Checks every size and type of a call; nothing is read through the spans, whose pointers are device memory.
// x [tokens, cols], out [tokens, rows] of any strides, bias [rows] or null, all of one element type; a weight of `kept` blocks of
// height x width. UnsupportedError for blocks that have no kernel (see block_fits_tensor_cores), SpanError where the resident's length does not fit.
BlockArgs block_linear_call(const core::Span& x, const core::Span& resident, int64_t height, int64_t width, int64_t kept,
                            const core::Span* bias, const core::Span& out, cpu::Activation activation);

// Queues the kernel on a CUDA stream (0: the default one) and returns at once. What throw_status has, with CUDA's own
// words, for a machine without a device or a launch that fails (runtime/status.h).
void block_linear_launch(const BlockArgs& args, core::DType dtype, uint64_t stream);

}  // namespace sparsecore::cuda
