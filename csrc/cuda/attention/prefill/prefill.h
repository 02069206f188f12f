// Attention of many queries on a CUDA device: what csrc/cpu/attention/prefill.h defines, for tensors of any strides.
//
// 16-bit elements, heads up to 256 wide and value_keep 1 take the tensor-core kernels (sm80_prefill.h, sm90_prefill.h), all else
// the plain one (plain_prefill.h). A query whose sums are infinite or NaN is put on a list and computed again by
// the plain kernel, which is queued behind the others and ends at once where the list is empty.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/span.h"
#include "cpu/attention/prefill.h"
#include "cuda/attention/prefill/args.h"

namespace sparsecore::cuda {

// Key blocks by block of queries: a query sees only keys of the blocks between two offsets of its own.
struct PrefillBlocks {
    const core::Span& offsets;  // i64 [B or 1, Hq or 1, query blocks + 1] places in indices, ascending
    const core::Span& indices;  // i32 [n], ascending within a list; the kernels clamp both to what there is
    int64_t query_block, key_block;  // 64 or 128 each
};

struct PrefillResults {
    const core::Span &out, &lse;      // without gaps, as all of these
    const core::Span* token_scores;   // i64 [B, Hq, Lk] or null; zeros, added to
    const core::Span* head_scores;    // i64 [B, Hq] or null; zeros, added to
    const core::Span* used;           // u8 [B, Hq, Lk] or null; zeros, 1 where a counted query multiplied the value
};

struct PrefillScratch {
    const core::Span& floats;       // f32 [prefill_scratch_floats]
    const core::Span& odd_count;    // i64 [1], zero
    const core::Span& odd_queries;  // i64 [B * Hq * Lq]
};

// Checks every size and type; nothing is read through the spans, whose pointers are device memory. `blocks` may be null.
// ShapeError, DtypeError, SpanError, AliasingError, InvalidValueError.
PrefillArgs prefill_args(const cpu::ScoredInputs& inputs, const PrefillBlocks* blocks, const PrefillResults& results,
                         const PrefillScratch& scratch);

// Floats of scratch memory for as many blocks of the plain kernel as the device runs at once, 32 MiB at most unless one takes more.
int64_t prefill_scratch_floats(int64_t rows, int64_t keys);

// Queues the kernels on a CUDA stream and returns at once.
void prefill_launch(const PrefillArgs& args, core::DType dtype, uint64_t stream);

// The tensor-core kernels by dtype.
void sm80_prefill_bf16(const PrefillArgs& args, uint64_t stream);
void sm80_prefill_f16(const PrefillArgs& args, uint64_t stream);
void sm90_prefill_bf16(const PrefillArgs& args, uint64_t stream);
void sm90_prefill_f16(const PrefillArgs& args, uint64_t stream);

}  // namespace sparsecore::cuda
