#include "cuda/attention/prefill/prefill.h"

#include <cfloat>
#include <cmath>
#include <string>

#include "core/checked.h"
#include "cpu/attention/prefill_check.h"

namespace sparsecore::cuda {

namespace {

using core::Error;
using core::Span;

// Positions of keys are 32-bit numbers in the kernels, also those behind the last key of a block.
constexpr int64_t kMost = int64_t{1} << 30;

int narrow(int64_t size, const char* name) {
    if (size > kMost) throw Error("ShapeError", std::to_string(size) + " is too large", name, "at most 2^30");
    return static_cast<int>(size);
}

PrefillTensor tensor_of(const Span& s) {
    bool in_units = (s.strides[3] == 1 || s.shape[3] <= 1) && reinterpret_cast<uintptr_t>(s.data) % 16 == 0;
    for (int i = 0; i < 3; ++i) in_units &= s.strides[i] % 8 == 0 || s.shape[i] <= 1;
    return {s.data, s.strides[0], s.strides[1], s.strides[2], s.strides[3], in_units};
}

int block_size(int64_t size, const char* name) {
    if (size != 64 && size != 128) throw Error("ShapeError", "blocks of " + std::to_string(size), name, "64 or 128");
    return static_cast<int>(size);
}

void fill_blocks(const PrefillBlocks& blocks, PrefillArgs& args) {
    const int query_block = block_size(blocks.query_block, "query_block");
    args.lists.query_block = query_block;
    args.lists.key_block = block_size(blocks.key_block, "key_block");
    const Span &offsets = blocks.offsets, &indices = blocks.indices;
    core::require_shape(offsets, "offsets", {-1, -1, (args.queries + query_block - 1) / query_block + 1});
    core::require_dtype(offsets, "offsets", core::DType::I64);
    core::require_contiguous(offsets, "offsets");
    core::require_shape(indices, "indices", {-1});
    core::require_dtype(indices, "indices", core::DType::I32);
    core::require_contiguous(indices, "indices");
    for (int i = 0; i < 2; ++i) {
        const int64_t whole = i == 0 ? args.batch : args.heads;
        if (offsets.shape[i] != 1 && offsets.shape[i] != whole) {
            throw Error("ShapeError", "lists of shape " + core::shape_text(offsets), "offsets",
                        "1 or " + std::to_string(whole) + " in dimension " + std::to_string(i));
        }
    }
    args.lists.offsets = offsets.as<const int64_t>();
    args.lists.indices = indices.as<const int32_t>();
    args.lists.batch_stride = offsets.shape[0] == 1 ? 0 : offsets.strides[0];
    args.lists.head_stride = offsets.shape[1] == 1 ? 0 : offsets.strides[1];
    args.lists.count = indices.shape[0];
}

void fill_results(const cpu::ScoredInputs& in, const PrefillResults& results, PrefillArgs& args) {
    cpu::check_scored_results(in, {results.out, results.lse, results.token_scores, results.head_scores, results.used});
    core::require_contiguous(results.out, "out");
    core::require_contiguous(results.lse, "lse");
    args.out = results.out.data;
    args.lse = results.lse.as<float>();
    if (results.token_scores != nullptr) {
        core::require_contiguous(*results.token_scores, "token_scores");
        args.token_scores = results.token_scores->as<uint64_t>();
    }
    if (results.head_scores != nullptr) {
        core::require_contiguous(*results.head_scores, "head_scores");
        args.head_scores = results.head_scores->as<uint64_t>();
    }
    if (results.used != nullptr) {
        core::require_shape(*results.used, "used", {in.q.shape[0], in.q.shape[1], in.k.shape[2]});
        core::require_dtype(*results.used, "used", core::DType::U8);
        core::require_contiguous(*results.used, "used");
        args.used = results.used->as<uint8_t>();
    }
}

void fill_scratch(const PrefillScratch& scratch, PrefillArgs& args) {
    const int64_t rows = int64_t{args.batch} * args.heads * args.queries;
    core::require_shape(scratch.floats, "scratch", {-1});
    core::require_dtype(scratch.floats, "scratch", core::DType::F32);
    core::require_contiguous(scratch.floats, "scratch");
    core::require_shape(scratch.odd_count, "odd_count", {1});
    core::require_dtype(scratch.odd_count, "odd_count", core::DType::I64);
    core::require_shape(scratch.odd_queries, "odd_queries", {rows});
    core::require_dtype(scratch.odd_queries, "odd_queries", core::DType::I64);
    core::require_contiguous(scratch.odd_queries, "odd_queries");
    args.scratch = scratch.floats.as<float>();
    args.scratch_stride = prefill_scratch_stride(args.keys);
    args.scratch_blocks = args.scratch_stride == 0 ? kMost : scratch.floats.shape[0] / args.scratch_stride;
    if (rows > 0 && args.scratch_blocks == 0) {
        throw Error("ShapeError", "scratch memory of " + std::to_string(scratch.floats.shape[0]) + " floats", "scratch",
                    "at least " + std::to_string(args.scratch_stride));
    }
    args.odd_count = scratch.odd_count.as<int64_t>();
    args.odd_queries = scratch.odd_queries.as<int64_t>();
}

}  // namespace

PrefillArgs prefill_args(const cpu::ScoredInputs& in, const PrefillBlocks* blocks, const PrefillResults& results,
                         const PrefillScratch& scratch) {
    cpu::check_scored_inputs(in);
    PrefillArgs args{};
    args.batch = narrow(in.q.shape[0], "batch"), args.heads = narrow(in.q.shape[1], "heads");
    args.key_heads = narrow(in.k.shape[1], "heads");
    narrow(core::checked_mul(args.batch, args.heads, "heads"), "batch x heads");
    args.queries = narrow(in.q.shape[2], "queries"), args.keys = narrow(in.k.shape[2], "keys");
    args.width = narrow(in.q.shape[3], "head_dim"), args.value_width = narrow(in.v.shape[3], "head_dim");
    if (args.width > kPlainMostWidth) {
        throw Error("ShapeError", "heads " + std::to_string(args.width) + " wide", "q", "at most " + std::to_string(kPlainMostWidth));
    }
    args.q = tensor_of(in.q), args.k = tensor_of(in.k), args.v = tensor_of(in.v);
    if (in.mask != nullptr) {
        args.mask = in.mask->as<const uint8_t>();
        args.mask_batch_stride = in.mask->strides[0], args.mask_head_stride = in.mask->strides[1];
        args.mask_query_stride = in.mask->strides[2], args.mask_key_stride = in.mask->strides[3];
    }
    if (in.counted != nullptr) {
        args.counted = in.counted->as<const uint8_t>();
        args.counted_batch_stride = in.counted->strides[0], args.counted_query_stride = in.counted->strides[1];
    }
    args.causal = in.causal;
    args.negative = std::signbit(in.scale);
    args.scale = std::fabs(in.scale);
    // Not zero: a key that is hidden has the score -infinity, which a slope must not turn into NaN.
    args.slope = std::fmax(args.scale * 1.44269504088896341f, FLT_MIN);
    args.value_keep = in.value_keep;
    if (blocks != nullptr) fill_blocks(*blocks, args);
    fill_results(in, results, args);
    fill_scratch(scratch, args);
    return args;
}

}  // namespace sparsecore::cuda
