// Attention of many queries with importance scores, after SpAtten (HPCA 2021, sections III-A to III-C).
//
// Meaning, for one query i of a head, over the keys j that it sees (mask, and j <= i + Lk - Lq where causal):
//  1. score[j] = scale * sum over d of q[i, d] * k[j, d], p = softmax(score) and lse = log(sum exp(score)), in fp32.
//  2. Every key's token score grows by round(p[j] * 2^kScoreBits), half to even, if the query is counted.
//  3. Only the value_count(value_keep, keys seen) keys of largest p keep it, equal ones with the lower index first.
//  4. out[i] = sum of p[j] v[j] over them. A key that is not seen, not kept or whose p is 0 in fp32 contributes nothing,
//     whatever key and value hold. A query that sees nothing has out 0 and lse -inf.
//  5. The head's score grows by min(round(|out| * 2^kScoreBits), 2^31 - 1) of every stored element of a counted query.
// NaN counts as 0. Scores are int64 sums of integers: exact, whatever the order.
#pragma once

#include "core/span.h"

namespace sparsecore::cpu {

struct ScoredInputs {
    const core::Span &q, &k, &v;  // [B, Hq, Lq, D], [B, Hkv, Lk, D], [B, Hkv, Lk, Dv], one of f32, f16, bf16
    const core::Span* mask;       // u8 [B, Hq, Lq, Lk] or null, non-zero: the query sees the key
    const core::Span* counted;    // u8 [B, Lq] or null (all), non-zero: counted
    bool causal;
    float scale;
    double value_keep;  // 0 < value_keep <= 1
};

struct ScoredOutputs {
    const core::Span &out, &lse;      // [B, Hq, Lq, Dv] in q's type, f32 [B, Hq, Lq]
    const core::Span* token_scores;   // i64 [B, Hq, Lk] or null
    const core::Span* head_scores;    // i64 [B, Hq] or null
    const core::Span& values_used;    // i32 [B, Hq]: keys that any counted query kept
};

// Elements of a row of q, k, v, mask and out are neighbours; other strides are free, those of inputs may be 0.
// ShapeError, DtypeError, SpanError, AliasingError, InvalidValueError.
void scored_attention(const ScoredInputs& inputs, const ScoredOutputs& outputs, int threads);

}  // namespace sparsecore::cpu
