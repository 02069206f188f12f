// Changing a store of keys and values on a CUDA device; formats/bitplane.h says what the operations mean.
#pragma once

#include <vector>

#include "core/span.h"
#include "cuda/attention/decode/store_args.h"

namespace sparsecore::cuda::decode {

// pages: null, or i32 [B, entries] of a paged store, whose tensors are [pages, Hkv, page size, ...]. The errors of
// formats::kv_append and kv_compact but IndexTableError: nothing is read through the spans, and kernels leave out tokens
// whose slots or pages are outside of the store, and clamp rows.
AppendArgs append_args(const std::vector<core::Span>& keys, const std::vector<core::Span>& values, const core::Span& new_keys,
                       const core::Span& new_values, const core::Span& positions, const core::Span* pages, int msb_bits,
                       int value_bits);
CompactArgs compact_args(const std::vector<core::Span>& stored, const core::Span& index, const core::Span& counts);

// Queue a kernel on a CUDA stream and return at once.
void append_launch(const AppendArgs& args, uint64_t stream);
void compact_launch(const CompactArgs& args, uint64_t stream);

}  // namespace sparsecore::cuda::decode
