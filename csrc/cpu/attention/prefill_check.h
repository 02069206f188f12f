// What every back end asks of a call of scored attention; nothing is read through the spans.
#pragma once

#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"
#include "cpu/attention/prefill.h"

namespace sparsecore::cpu {

inline void check_scored_inputs(const ScoredInputs& in) {
    const core::Span &q = in.q, &k = in.k, &v = in.v;
    core::require_shape(q, "q", {-1, -1, -1, -1});
    core::require_float(q, "q");
    core::require_shape(k, "k", {q.shape[0], -1, -1, q.shape[3]});
    core::require_dtype(k, "k", q.dtype);
    core::require_shape(v, "v", {q.shape[0], k.shape[1], k.shape[2], -1});
    core::require_dtype(v, "v", q.dtype);
    if (k.shape[1] == 0 ? q.shape[1] != 0 : q.shape[1] % k.shape[1] != 0) {
        throw core::Error("ShapeError", std::to_string(q.shape[1]) + " heads of q, " + std::to_string(k.shape[1]) + " of k",
                          "q", "a multiple of the heads of k");
    }
    if (in.mask != nullptr) {
        core::require_shape(*in.mask, "mask", {q.shape[0], q.shape[1], q.shape[2], k.shape[2]});
        core::require_dtype(*in.mask, "mask", core::DType::U8);
    }
    if (in.counted != nullptr) {
        core::require_shape(*in.counted, "counted", {q.shape[0], q.shape[2]});
        core::require_dtype(*in.counted, "counted", core::DType::U8);
    }
    if (!std::isfinite(in.scale)) throw core::Error("InvalidValueError", "scale is not finite", "scale", "a finite number");
    if (!(in.value_keep > 0 && in.value_keep <= 1)) {
        throw core::Error("InvalidValueError", "value_keep is " + std::to_string(in.value_keep), "value_keep",
                          "0 < value_keep <= 1");
    }
}

// `used`: checked by the caller but for its memory; null where there is none.
struct ScoredResults {
    const core::Span &out, &lse;
    const core::Span *token_scores, *head_scores, *used;
};

inline void check_scored_results(const ScoredInputs& in, const ScoredResults& out) {
    const core::Span& q = in.q;
    core::require_shape(out.out, "out", {q.shape[0], q.shape[1], q.shape[2], in.v.shape[3]});
    core::require_dtype(out.out, "out", q.dtype);
    core::require_shape(out.lse, "lse", {q.shape[0], q.shape[1], q.shape[2]});
    core::require_dtype(out.lse, "lse", core::DType::F32);
    if (out.token_scores != nullptr) {
        core::require_shape(*out.token_scores, "token_scores", {q.shape[0], q.shape[1], in.k.shape[2]});
        core::require_dtype(*out.token_scores, "token_scores", core::DType::I64);
    }
    if (out.head_scores != nullptr) {
        core::require_shape(*out.head_scores, "head_scores", {q.shape[0], q.shape[1]});
        core::require_dtype(*out.head_scores, "head_scores", core::DType::I64);
    }
    using Named = std::pair<const core::Span*, const char*>;
    const Named inputs[] = {{&in.q, "q"}, {&in.k, "k"}, {&in.v, "v"}, {in.mask, "mask"}, {in.counted, "counted"}};
    const Named outputs[] = {{&out.out, "out"}, {&out.lse, "lse"}, {out.used, "values_used"},
                             {out.token_scores, "token_scores"}, {out.head_scores, "head_scores"}};
    for (const auto& [span, name] : outputs) {
        if (span == nullptr) continue;
        for (const auto& [input, input_name] : inputs) {
            if (input != nullptr) core::require_disjoint(*span, name, *input, input_name);
        }
        for (const auto& [other, other_name] : outputs) {
            if (other == span) break;
            if (other != nullptr) core::require_disjoint(*span, name, *other, other_name);
        }
    }
}

}  // namespace sparsecore::cpu
