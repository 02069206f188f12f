// Rows of ragged batches moved together and apart on a CUDA device; the meaning is that of cpu/rows/rows.h.
#pragma once

#include "core/span.h"
#include "cuda/rows/args.h"

namespace sparsecore::cuda {

// Check every size and type of a call; nothing is read through the spans, whose pointers are device memory. Bytes of a row are
// neighbours. ShapeError, DtypeError, SpanError, AliasingError.
//
// out[b, s] = x[b, index[b, s]]: x u8 [B, n, bytes], index i64 [B, m], out u8 [B, m, bytes]. A negative index counts from the end.
RowsArgs gather_rows_call(const core::Span& x, const core::Span& index, const core::Span& out);
// out[b, positions[b, s]] = x[b, s], where two have one position the later one; positions outside [0, L) are skipped. out u8
// [B, L, bytes], positions i64 [B, m], x u8 [B, m, bytes]; sources i32 [B, L] without gaps is scratch; m < 2^31.
RowsArgs scatter_rows_call(const core::Span& out, const core::Span& positions, const core::Span& x, const core::Span& sources);

// Queue the kernels on a CUDA stream (0: the default one) and return at once. What throw_status has for a launch that fails
// (runtime/status.h). An index that gather_rows has no row for stops the kernel, which CUDA tells at a later call.
void gather_rows_launch(const RowsArgs& args, uint64_t stream);
void scatter_rows_launch(const RowsArgs& args, uint64_t stream);

}  // namespace sparsecore::cuda
