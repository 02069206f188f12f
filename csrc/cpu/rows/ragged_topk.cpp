#include <algorithm>
#include <functional>
#include <string>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/parallel.h"
#include "cpu/rows/rows.h"

namespace sparsecore::cpu {

namespace {

using core::Span;

int64_t at(const Span& list, int64_t b) { return list.as<const int64_t>()[b * list.strides[0]]; }

void check(const Span& scores, const Span& counts, const Span& keep, const Span& index, int threads) {
    core::require_shape(scores, "scores", {-1, -1});
    if (scores.dtype != core::DType::F32) core::require_dtype(scores, "scores", core::DType::I64);
    const int64_t batch = scores.shape[0], slots = scores.shape[1];
    core::require_shape(counts, "counts", {batch});
    core::require_dtype(counts, "counts", core::DType::I64);
    core::require_shape(keep, "keep", {batch});
    core::require_dtype(keep, "keep", core::DType::I64);
    core::require_shape(index, "index", {batch, -1});
    core::require_dtype(index, "index", core::DType::I64);
    core::require_disjoint(index, "index", scores, "scores");
    core::require_disjoint(index, "index", counts, "counts");
    core::require_disjoint(index, "index", keep, "keep");
    for (int64_t b = 0; b < batch; ++b) {
        const std::string place = "[" + std::to_string(b) + "] is ";
        const int64_t count = at(counts, b), kept = at(keep, b);
        if (count < 0 || count > slots) {
            throw core::Error("InvalidValueError", "counts" + place + std::to_string(count), "counts",
                              "0 <= count <= " + std::to_string(slots) + ", the scores of a sequence");
        }
        if (kept < 0 || kept > count || kept > index.shape[1]) {
            throw core::Error("InvalidValueError", "keep" + place + std::to_string(kept), "keep",
                              "0 <= keep <= " + std::to_string(std::min(count, index.shape[1])) +
                                  ", its count and the width");
        }
    }
    if (threads < 1) {
        throw core::Error("InvalidValueError", "threads is " + std::to_string(threads), "threads", "at least 1");
    }
}

// An integer that compares as the score does, NaN above all and both zeros equal.
int64_t rank_of(const Span& scores, int64_t place) {
    if (scores.dtype == core::DType::I64) return scores.as<const int64_t>()[place];
    const uint32_t bits = scores.as<const uint32_t>()[place];
    const auto magnitude = static_cast<int64_t>(bits & 0x7fffffffu);
    if (magnitude > 0x7f800000) return INT64_MAX;
    return bits >> 31 != 0 ? -magnitude : magnitude;
}

void select(const Span& scores, int64_t b, int64_t count, int64_t kept, int64_t* ranks, const Span& index) {
    int64_t* out = index.as<int64_t>() + b * index.strides[0];
    const int64_t step = index.strides[1];
    int64_t found = 0;
    if (kept > 0) {
        int64_t* sorted = ranks + count;
        for (int64_t s = 0; s < count; ++s) {
            ranks[s] = sorted[s] = rank_of(scores, b * scores.strides[0] + s * scores.strides[1]);
        }
        std::nth_element(sorted, sorted + kept - 1, sorted + count, std::greater<>());
        const int64_t bound = sorted[kept - 1];
        // All above the bound are before it; those at the bound are taken from the lowest slot on.
        int64_t ties = kept - std::count_if(sorted, sorted + kept, [bound](int64_t rank) { return rank > bound; });
        for (int64_t s = 0; s < count && found < kept; ++s) {
            if (ranks[s] < bound || (ranks[s] == bound && ties-- <= 0)) continue;
            out[found++ * step] = s;
        }
    }
    for (; found < index.shape[1]; ++found) out[found * step] = 0;
}

}  // namespace

void ragged_topk(const Span& scores, const Span& counts, const Span& keep, const Span& index, int threads) {
    check(scores, counts, keep, index, threads);
    const int64_t slots = scores.shape[1], grain = slots > 0 ? 1 + 4096 / slots : 4096;
    core::parallel_for(0, scores.shape[0], grain, threads, [&](int64_t begin, int64_t end) {
        thread_local core::AlignedBuffer ranks;
        ranks.reserve(core::checked_mul(slots, 16, "scores"));
        for (int64_t b = begin; b < end; ++b) {
            select(scores, b, at(counts, b), at(keep, b), ranks.as<int64_t>(), index);
        }
    });
}

}  // namespace sparsecore::cpu
