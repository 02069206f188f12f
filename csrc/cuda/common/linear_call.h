// The checks of a linear call before its kernel is launched; nothing is read through the spans, whose pointers are device memory.
#pragma once

#include "core/span.h"
#include "cuda/common/linear_args.h"

namespace sparsecore::cuda {

// x [tokens, cols], out [tokens, rows] of any strides, bias [rows] or null, all of one float type; `resident` of exactly
// `resident_bytes`, from a multiple of 16 bytes on. ShapeError, DtypeError, SpanError or AliasingError.
LinearArgs check_linear_call(const core::Span& x, const core::Span& resident, std::int64_t resident_bytes,
                             const core::Span* bias, const core::Span& out, cpu::Activation activation);

}  // namespace sparsecore::cuda
