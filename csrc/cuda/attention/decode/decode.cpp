#include "cuda/attention/decode/decode.h"

#include <algorithm>
#include <string>

#include "core/checked.h"
#include "core/error.h"
#include "cpu/attention/decode/check.h"
#include "cuda/attention/decode/parts.h"
#include "formats/bitplane.h"

namespace sparsecore::cuda::decode {

namespace {

using core::DType;
using core::Span;

constexpr int64_t kBlocksPerMultiprocessor = 8;  // two rounds of what fits on one
constexpr int64_t kRowsPerSplit = 128, kMostSplits = 256;
constexpr int64_t kMostBlocks = INT32_MAX;

int64_t chunks_of(int64_t group) { return (group + kQueries - 1) / kQueries; }

// Pieces of the workspace one behind the other, from multiples of 256 bytes on.
class Pieces {
public:
    explicit Pieces(uint8_t* base) : base_(base) {}
    template <class T>
    T* take(int64_t count) {
        const int64_t first = bytes_;
        bytes_ = core::checked_add(first, core::round_up(core::checked_mul(count, sizeof(T), "workspace"), 256, "workspace"), "workspace");
        return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + first);
    }
    int64_t bytes() const { return bytes_; }

private:
    uint8_t* base_;
    int64_t bytes_ = 0;
};

int64_t lay_out(const Sizes& s, int64_t splits, uint8_t* base, Args& a) {
    Pieces pieces(base);
    const int64_t queries = core::checked_mul(s.batch, s.heads, "workspace"), parts = core::checked_mul(queries, splits, "workspace");
    a.scores = pieces.take<float>(core::checked_mul(queries, s.most_rows, "workspace"));
    a.first = pieces.take<Sums>(parts);
    a.again = pieces.take<Sums>(parts);
    a.sums = pieces.take<float>(core::checked_mul(parts, s.value_width, "workspace"));
    a.cuts = s.prunes_values ? pieces.take<Cut>(queries) : nullptr;
    const bool shares = s.prunes_values && s.group_values;
    a.shares = shares ? pieces.take<float>(core::checked_mul(s.batch * s.kv_heads, s.most_rows, "workspace")) : nullptr;
    return pieces.bytes();
}

Sizes sizes_of(const cpu::DecodeProblem& p) {
    return {p.batch, p.heads, p.kv_heads, p.value_width, p.most_rows, p.value_keep < 1.0, p.group_values};
}

void require_sizes(const cpu::DecodeProblem& p, int splits) {
    if (p.width > kWidth || p.value_width > kWidth || p.group > kGroup || p.slots > INT32_MAX - kRowsPerSplit ||
        p.most_rows > INT32_MAX - kRowsPerSplit) {
        throw core::Error("ShapeError", "beyond what the CUDA kernels take", "q, keys, values",
                          "at most " + std::to_string(kWidth) + " dimensions, " + std::to_string(kGroup) +
                              " query heads of a key head, 2^31 - 129 slots");
    }
    const int64_t groups = core::checked_mul(p.batch, core::checked_mul(p.kv_heads, chunks_of(p.group), "blocks"), "blocks");
    if (core::checked_mul(groups, splits, "blocks") > kMostBlocks || core::checked_mul(p.batch, p.heads, "blocks") > kMostBlocks) {
        throw core::Error("ShapeError", "more sequences and heads than a grid has blocks", "q", "fewer than 2^31");
    }
}

Part part_of(const cpu::DecodePart& part, int64_t bytes, int64_t unit) {
    return make_part(part.data, part.batch_stride, part.head_stride, part.row_stride, bytes, unit);
}

void fill_store(const cpu::DecodeProblem& p, const cpu::DecodeStore& store, Args& a) {
    if (p.planes != 0) {
        const formats::KeyPlanes format = formats::key_planes(store.msb_bits, p.width);
        a.keys = describe_planes(format);
        for (int i = 0; i < p.planes; ++i) a.keys.plane[i] = part_of(p.plane[i].part, format.plane[i].bytes, 16);
        a.key_scales = part_of(p.key_scales, 4, 4);
    } else {
        a.dense_keys = part_of(p.keys, p.width * core::itemsize(p.key_type), 16);
    }
    const int64_t item = core::itemsize(p.value_type);
    a.value_type = p.value_type;
    a.values = part_of(p.values, p.value_width * item, std::min<int64_t>(16, 8 * item));
    if (p.value_type == DType::I8) a.value_scales = part_of(p.value_scales, 4, 4);
    if (p.pages != 0) {
        a.paging = {static_cast<const int32_t*>(p.page_table.data), p.page_table.batch_stride, p.page_table.head_stride, p.pages,
                    bits_of_page(p.page_slots)};
    }
}

void fill_seen(const cpu::DecodeProblem& p, const cpu::DecodeSeen& seen, Args& a) {
    a.starts = seen.starts->as<const int64_t>(), a.start_stride = seen.starts->strides[0];
    a.lengths = seen.lengths->as<const int64_t>(), a.length_stride = seen.lengths->strides[0];
    if (seen.rows != nullptr) {
        a.rows = seen.rows->as<const int64_t>();
        a.rows_batch_stride = seen.rows->strides[0], a.rows_stride = seen.rows->strides[1];
    }
    if (seen.row_counts != nullptr) {
        a.row_counts = seen.row_counts->as<const int64_t>(), a.row_count_stride = seen.row_counts->strides[0];
    }
    a.kept = static_cast<const uint8_t*>(p.heads_kept.data);
    a.kept_batch_stride = p.heads_kept.batch_stride, a.kept_head_stride = p.heads_kept.head_stride;
}

Tensor tensor(const cpu::DecodeTensor& from) { return {from.data, from.batch_stride, from.head_stride, from.last_stride}; }

void fill_outputs(const cpu::DecodeProblem& p, Args& a) {
    a.q = tensor(p.q), a.out = tensor(p.out), a.lse = tensor(p.lse);
    a.token_scores = tensor(p.token_scores), a.head_scores = tensor(p.head_scores);
    a.low = tensor(p.low), a.values_used = tensor(p.values_used);
}

}  // namespace

int splits_for(const Sizes& s, int multiprocessors) {
    if (s.kv_heads == 0 || s.batch == 0) return 1;
    const int64_t groups = core::checked_mul(s.batch, s.kv_heads * chunks_of(s.heads / s.kv_heads), "blocks");
    const int64_t wanted = (multiprocessors * kBlocksPerMultiprocessor + groups - 1) / groups;
    const int64_t most = std::min((s.most_rows + kRowsPerSplit - 1) / kRowsPerSplit, kMostSplits);
    return static_cast<int>(std::max<int64_t>(1, std::min(wanted, most)));
}

int64_t workspace_bytes(const Sizes& sizes, int splits) {
    Args unused{};
    return lay_out(sizes, splits, nullptr, unused);
}

Args decode_args(const Span& q, const cpu::DecodeStore& store, const cpu::DecodeSeen& seen, const cpu::DecodeRule& rule,
                 const cpu::DecodeOutputs& outputs, const Span& workspace, int multiprocessors) {
    const cpu::DecodeProblem p = cpu::decode_problem(q, store, seen, rule, outputs);
    const Sizes sizes = sizes_of(p);
    Args a{};
    a.splits = splits_for(sizes, multiprocessors);
    require_sizes(p, a.splits);
    core::require_shape(workspace, "workspace", {-1});
    core::require_dtype(workspace, "workspace", DType::U8);
    auto* base = workspace.as<uint8_t>();
    const int64_t needed = lay_out(sizes, a.splits, base, a);
    if (workspace.shape[0] < needed || workspace.strides[0] != 1 || reinterpret_cast<uintptr_t>(base) % 16 != 0) {
        throw core::Error("ShapeError", "a workspace of " + std::to_string(workspace.shape[0]) + " bytes", "workspace",
                          std::to_string(needed) + " bytes from a multiple of 16 on");
    }
    a.batch = p.batch, a.heads = p.heads, a.kv_heads = p.kv_heads;
    a.group = static_cast<int>(p.group), a.chunks = static_cast<int>(chunks_of(p.group));
    a.width = static_cast<int>(p.width), a.value_width = static_cast<int>(p.value_width);
    a.slots = p.slots, a.most_rows = p.most_rows;
    a.type = p.type;
    a.scale = p.scale, a.threshold = p.threshold, a.value_mass = p.value_mass;
    a.value_keep = p.value_keep, a.group_values = p.group_values;
    fill_store(p, store, a);
    fill_seen(p, seen, a);
    fill_outputs(p, a);
    return a;
}

}  // namespace sparsecore::cuda::decode
