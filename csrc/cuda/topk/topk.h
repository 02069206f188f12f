// The k largest of every row on a CUDA device. NaN is larger than every number, -0 equals +0, equal values go to the lower
// index first, and the taken ones are given in ascending index order: the result is one set, whatever the order of execution.
#pragma once

#include "core/dtype.h"
#include "core/span.h"
#include "cuda/topk/args.h"

namespace sparsecore::cuda {

// How rows are searched, and the bytes of device memory that takes, from sizes alone. Plans for more multiprocessors cut rows into
// more pieces.
TopkPlan topk_plan(core::DType dtype, int64_t rows, int64_t n, int64_t k, int multiprocessors);

// Check every size and type of a call; nothing is read through the spans, whose pointers are device memory. ShapeError,
// DtypeError, SpanError, AliasingError.
//
// x [rows, n] in f32, f16 or bf16, elements of a row neighbours; values [rows, k] of its type and indices i64 [rows, k] without gaps; 0 <= k <= n.
TopkArgs topk_select_call(const core::Span& x, int64_t k, const core::Span& values, const core::Span& indices);
// out [rows], without gaps, of the type of x: the k-th largest value of every row, 1 <= k <= n (zero as +0, NaN as a quiet NaN).
TopkArgs topk_threshold_call(const core::Span& x, int64_t k, const core::Span& out);
// index i64 [rows, width], without gaps: the slots of the keep[b] highest of the first counts[b] scores of row b, ascending, then
// zeros. scores f32 or i64 [rows, n], neighbours in a row; counts and keep i64 [rows] with 0 <= keep <= counts <= n and keep <= width: the kernels
// clamp other values.
TopkArgs ragged_topk_call(const core::Span& scores, const core::Span& counts, const core::Span& keep, const core::Span& index);

// Bytes of the workspace on the current device, which start at a multiple of 16.
int64_t topk_workspace(core::DType dtype, int64_t rows, int64_t n, int64_t k);

// Queues the kernels on a CUDA stream (0: the default one) and returns at once. SpanError where the workspace is too small or
// misaligned; what throw_status has for a launch that fails (runtime/status.h).
void topk_launch(const TopkArgs& args, core::DType dtype, const core::Span& workspace, uint64_t stream);

// The same for one element type, by a plan of topk_plan.
void topk_launch_f32(const TopkArgs& args, const TopkPlan& plan, void* workspace, std::uint64_t stream);
void topk_launch_f16(const TopkArgs& args, const TopkPlan& plan, void* workspace, std::uint64_t stream);
void topk_launch_bf16(const TopkArgs& args, const TopkPlan& plan, void* workspace, std::uint64_t stream);
void topk_launch_i64(const TopkArgs& args, const TopkPlan& plan, void* workspace, std::uint64_t stream);

}  // namespace sparsecore::cuda
