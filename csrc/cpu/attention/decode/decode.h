// Attention of one new token of each sequence over stored keys and values; formats/bitplane.h says how they are stored.
//
// Meaning, for one query head over the n rows that its sequence shows it:
//  1. Dense keys: score(j) = scale * sum over d of q * k, in fp32. Bit planes: q becomes 15-bit integers, symmetric, with
//     one scale; every plane gives an exact integer sum, which is rounded to fp32 and added to `previous * 2^bits` of the
//     planes before it with one rounding; score(j) = that * (q scale * scale) * k scale(j).
//  2. The first pass takes 8, the middle of what is missing, in place of the low bits. If the largest probability is below
//     `threshold`, the low plane is added to the stored sums: the high planes are not read again.
//  3. Softmax in fp32. token_scores(j) = round(p(j) * 2^20), half to even, NaN: 0.
//  4. The V rows of the max(1, floor(value_keep * n)) largest probabilities count, equal ones by the lower row; all of them
//     if they hold less than `value_mass`. With group_values the query heads of a key head share one choice, by the sum
//     of their probabilities; it is all rows if one of them holds too little.
//  5. out = sum of p V over those rows; head_scores = sum of round(|out| * 2^20) of the stored out, each at most 2^31 - 1.
//     int8 values are multiplied with 16-bit probabilities, one scale for 64 rows, by kernels that have such a product.
// A row that is not read or does not count contributes nothing, whatever it holds. A query that sees no row, or whose head
// is pruned, has out 0, lse -inf and scores 0. NaN probabilities make out and lse NaN. Same bits for any number of threads.
#pragma once

#include <vector>

#include "core/span.h"

namespace sparsecore::cpu {

// keys: {k} dense, or planes and scale; values: {v} or {v i8, scale}. msb_bits 0: dense.
struct DecodeStore {
    std::vector<core::Span> keys, values;
    int msb_bits = 0;
};

// Sequence b lies in slots starts[b] ... starts[b] + lengths[b] - 1 < width and reads them all, or those in
// rows[b, : row_counts[b]]. Optional spans may be null; heads u8 [B, Hq], 0: pruned. pages i32 [B, entries]: the tensors of the
// store are [pages, Hkv, page size, ...], and slot s is row s % page size of page pages[b, s / page size]; on GPUs only.
struct DecodeSeen {
    const core::Span *starts = nullptr, *lengths = nullptr, *rows = nullptr, *row_counts = nullptr, *heads = nullptr;
    int64_t width = 0;
    const core::Span* pages = nullptr;
};

struct DecodeRule {
    float scale = 1.0f, threshold = 0.0f, value_mass = 0.0f;
    double value_keep = 1.0;
    bool group_values = false;
};

// out [B, Hq, 1, Dv] in q's type, lse f32 [B, Hq, 1], token_scores i64 [B, Hq, rows or width] and head_scores i64 [B, Hq]
// (either may be null), low u8 [B, Hq], values_used i32 [B, Hq].
struct DecodeOutputs {
    const core::Span *out = nullptr, *lse = nullptr, *token_scores = nullptr, *head_scores = nullptr, *low = nullptr,
                     *values_used = nullptr;
};

// q [B, Hq, 1, D] in f32, f16 or bf16, that of dense keys. ShapeError, DtypeError, SpanError, AliasingError,
// InvalidValueError; IndexTableError for slots outside of their sequence or not ascending.
void decode_attention(const core::Span& q, const DecodeStore& store, const DecodeSeen& seen, const DecodeRule& rule,
                      const DecodeOutputs& outputs, int threads);

}  // namespace sparsecore::cpu
