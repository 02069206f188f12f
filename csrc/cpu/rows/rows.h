// Rows of ragged batches: which slots go on, and rows moved together and apart. Copies run at the speed of memory and the
// selection is a small part of a layer: one path for every instruction set.
#pragma once

#include "core/span.h"

namespace sparsecore::cpu {

// out[b, s] = x[b, index[b, s]]; x u8 [B, n, bytes], index i64 [B, m], out u8 [B, m, bytes]. Bytes of a row are neighbours.
// ShapeError, DtypeError, SpanError, AliasingError; InvalidValueError for an index outside [0, n), before anything is
// written.
void gather_rows(const core::Span& x, const core::Span& index, const core::Span& out, int threads);

// out[b, positions[b, s]] = x[b, s], in the order of s; positions outside [0, L) are skipped. out u8 [B, L, bytes],
// positions i64 [B, m], x u8 [B, m, bytes].
void scatter_rows(const core::Span& out, const core::Span& positions, const core::Span& x, int threads);

// The slots of the keep[b] highest of the first counts[b] scores of row b, ascending, then zeros. NaN is highest, equal
// scores go to the lower slot. scores i64 or f32 [B, n], counts and keep i64 [B], index i64 [B, width].
// InvalidValueError unless 0 <= keep <= counts <= n and keep <= width.
void ragged_topk(const core::Span& scores, const core::Span& counts, const core::Span& keep, const core::Span& index,
                 int threads);

}  // namespace sparsecore::cpu
