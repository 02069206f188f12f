// Unstructured sparse linear layers on a CUDA device, for few tokens: the resident layout (layout.h), and the launch.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/span.h"
#include "cuda/bitmask_linear/args.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

// Checks every size and type of a call; nothing is read through the spans, whose pointers are device memory.
// x [tokens, cols], out [tokens, rows] of any strides, bias [rows] or null, all bf16 or f16; a weight of `kept` values.
// UnsupportedError for fp32, which has no kernel; SpanError where the resident's length does not fit.
BitmaskArgs bitmask_linear_call(const core::Span& x, const core::Span& resident, int64_t kept, const core::Span* bias,
                                const core::Span& out, cpu::Activation activation);

// Queues the kernel on a CUDA stream (0: the default one) and returns at once. Right for any number of tokens; meant for up to 16.
void bitmask_linear_launch(const BitmaskArgs& args, core::DType dtype, uint64_t stream);

namespace bitmask {

void launch_bf16(const BitmaskArgs& args, std::uint64_t stream);
void launch_f16(const BitmaskArgs& args, std::uint64_t stream);

}  // namespace bitmask

}  // namespace sparsecore::cuda
