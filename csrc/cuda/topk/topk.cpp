#include "cuda/topk/topk.h"

#include <algorithm>
#include <string>

#include "core/checked.h"
#include "core/error.h"

namespace sparsecore::cuda {

namespace {

using core::Error;
using core::Span;

constexpr int64_t kShortestPiece = 32768;             // a shorter one is not worth the second launch
constexpr int64_t kLongestPart = int64_t{1} << 30;    // positions in a part have 32 bits
constexpr int64_t kShortestChunk = 8192, kMostChunks = 1024;
constexpr int64_t kMostWorkspace = int64_t{32} << 20;  // of Radix, whose rows come in groups

TopkPlan radix_plan(core::DType dtype, int64_t rows, int64_t n) {
    const int64_t spread = core::round_up(core::ceil_div(n, kMostChunks), int64_t{kRadixThreads}, "chunk");
    TopkPlan plan{TopkMethod::Radix, 0, std::max(kShortestChunk, spread), 0, 0};
    plan.pieces = core::ceil_div(n, plan.piece_length);
    const int64_t row_bytes = radix_row_bytes(digits_of_key(static_cast<int>(core::itemsize(dtype) * 8)), plan.pieces);
    plan.group_rows = std::clamp<int64_t>(kMostWorkspace / row_bytes, 1, rows);
    plan.workspace_bytes = plan.group_rows * row_bytes;
    return plan;
}

void check_k(const Span& x, int64_t k, int64_t least) {
    core::require_shape(x, "x", {-1, -1});
    core::require_float(x, "x");
    if (k < least || k > x.shape[1]) {
        throw Error("ShapeError", "k is " + std::to_string(k), "k",
                    std::to_string(least) + " to " + std::to_string(x.shape[1]) + ", the length of a row");
    }
}

// x has been checked.
TopkArgs args_of(const Span& x, const char* name, int64_t k) {
    if (x.strides[1] != 1 && x.shape[1] > 1) {
        throw Error("ShapeError", "elements of a row are " + std::to_string(x.strides[1]) + " apart", name, "1",
                    "call .contiguous() first");
    }
    TopkArgs args{};
    args.x = x.data;
    args.row_stride = x.strides[0];
    args.rows = x.shape[0];
    args.n = x.shape[1];
    args.k = k;
    return args;
}

}  // namespace

TopkPlan topk_plan(core::DType dtype, int64_t rows, int64_t n, int64_t k, int multiprocessors) {
    if (n <= kWarpRow || rows == 0) return {TopkMethod::Warp, 1, n, 0, 0};
    const int64_t key_bytes = dtype == core::DType::I64 ? 8 : 4;
    const int64_t capacity = int64_t{kTopkThreads} * candidate_items(key_bytes);
    if (n <= capacity) return {TopkMethod::Block, 1, n, 0, 0};
    if (k > capacity - kTopkThreads * kTileItems) return radix_plan(dtype, rows, n);
    const int64_t idle = 2 * int64_t{multiprocessors} / rows;  // two blocks on each
    const int64_t pieces = std::max(std::min(idle, n / kShortestPiece), core::ceil_div(n, kLongestPart));
    if (pieces <= 1) return {TopkMethod::Block, 1, n, 0, 0};
    TopkPlan plan{TopkMethod::Pieces, 0, core::round_up(core::ceil_div(n, pieces), int64_t{64}, "piece"), 0, 0};
    plan.pieces = core::ceil_div(n, plan.piece_length);
    const int64_t finds = core::checked_mul(core::checked_mul(rows, plan.pieces, "workspace"), k, "workspace");
    plan.workspace_bytes = core::checked_mul(finds, key_bytes + 4, "workspace");
    return plan;
}

TopkArgs topk_select_call(const Span& x, int64_t k, const Span& values, const Span& indices) {
    check_k(x, k, 0);
    core::require_shape(values, "values", {x.shape[0], k});
    core::require_dtype(values, "values", x.dtype);
    core::require_contiguous(values, "values");
    core::require_shape(indices, "indices", {x.shape[0], k});
    core::require_dtype(indices, "indices", core::DType::I64);
    core::require_contiguous(indices, "indices");
    core::require_disjoint(values, "values", x, "x");
    core::require_disjoint(indices, "indices", x, "x");
    core::require_disjoint(values, "values", indices, "indices");
    TopkArgs args = args_of(x, "x", k);
    args.values = values.data;
    args.indices = indices.as<int64_t>();
    return args;
}

TopkArgs topk_threshold_call(const Span& x, int64_t k, const Span& out) {
    check_k(x, k, 1);
    core::require_shape(out, "out", {x.shape[0]});
    core::require_dtype(out, "out", x.dtype);
    core::require_contiguous(out, "out");
    core::require_disjoint(out, "out", x, "x");
    TopkArgs args = args_of(x, "x", k);
    args.threshold = out.data;
    return args;
}

TopkArgs ragged_topk_call(const Span& scores, const Span& counts, const Span& keep, const Span& index) {
    core::require_shape(scores, "scores", {-1, -1});
    if (scores.dtype != core::DType::F32) core::require_dtype(scores, "scores", core::DType::I64);
    for (const auto& [span, name] : {std::pair(&counts, "counts"), std::pair(&keep, "keep")}) {
        core::require_shape(*span, name, {scores.shape[0]});
        core::require_dtype(*span, name, core::DType::I64);
        core::require_disjoint(index, "index", *span, name);
    }
    core::require_shape(index, "index", {scores.shape[0], -1});
    core::require_dtype(index, "index", core::DType::I64);
    core::require_contiguous(index, "index");
    core::require_disjoint(index, "index", scores, "scores");
    TopkArgs args = args_of(scores, "scores", index.shape[1]);
    args.counts = counts.as<const int64_t>();
    args.counts_stride = counts.strides[0];
    args.keep = keep.as<const int64_t>();
    args.keep_stride = keep.strides[0];
    args.indices = index.as<int64_t>();
    return args;
}

}  // namespace sparsecore::cuda
