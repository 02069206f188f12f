// The resident layouts of the AVX-512 kernels: 16 rows interleaved, so that one vector holds the same kept values
// ("slots") of 16 outputs, and short position codes beside them.
//
//   values [row blocks][steps][16][width]              element type of the weight; rows past the end are zero
//   codes  [row blocks][spans][words][16][width] uint16  position within its group of m inputs, `bits` bits a slot
//
// A step is one multiply-add instruction: `width` slots of 16 rows (1 in fp32 arithmetic, 2 where bf16 pairs are
// multiplied). A span is the inputs that one permutation reaches: the largest multiple of m up to `reach` inputs (the
// lanes of a register), or m itself, in two registers, where m is more. The steps of a span start a new code word; a
// word holds floor(16 / bits) codes, lowest bits first.
// 2:4 in fp32: 4.25 bytes a kept value, 53 % of dense; in 16-bit types 56 %.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/linear_call.h"
#include "cpu/strip/strip.h"

namespace sparsecore::cpu {

constexpr int64_t kLanes = 16;

struct InterleavedShape {
    int64_t rows, cols, n, m;
    int64_t width, reach;
    int64_t row_blocks;  // of 16 rows
    int64_t kept;        // slots of a row
    int64_t steps;       // of a row; kept = steps * width where the layout is used
    int64_t span, spans;
    int64_t span_slots, span_steps;  // of a full span
    int64_t bits, word_codes, span_words;
};

static inline InterleavedShape interleaved_shape(int64_t rows, int64_t cols, int64_t n, int64_t m, int64_t width) {
    InterleavedShape s{};
    s.rows = rows;
    s.cols = cols;
    s.n = n;
    s.m = m;
    s.width = width;
    s.reach = kLanes * width;
    s.row_blocks = rows / kLanes + (rows % kLanes != 0);
    const int64_t tail = cols % m;
    s.kept = cols / m * n + (tail < n ? tail : n);
    s.steps = s.kept / width;
    s.span = m > s.reach ? m : s.reach / m * m;
    s.spans = cols / s.span + (cols % s.span != 0);
    s.span_slots = s.span / m * n;
    s.span_steps = s.span_slots / width;
    for (s.bits = 1; (int64_t{1} << s.bits) < m;) ++s.bits;
    s.word_codes = 16 / s.bits;
    s.span_words = s.span_steps / s.word_codes + (s.span_steps % s.word_codes != 0);
    return s;
}

static inline int64_t value_index(const InterleavedShape& s, int64_t row_block, int64_t slot, int64_t lane) {
    return ((row_block * s.steps + slot / s.width) * kLanes + lane) * s.width + slot % s.width;
}

struct CodePlace {
    int64_t index;  // of the uint16 word
    int shift;
};
static inline CodePlace code_place(const InterleavedShape& s, int64_t row_block, int64_t slot, int64_t lane) {
    const int64_t span = slot / s.span_slots, step = slot % s.span_slots / s.width;
    const int64_t word = (row_block * s.spans + span) * s.span_words + step / s.word_codes;
    return {(word * kLanes + lane) * s.width + slot % s.width, static_cast<int>(step % s.word_codes * s.bits)};
}

struct InterleavedWeight {
    InterleavedShape shape;
    core::DType dtype;
    const void* values;
    const uint16_t* codes;
};

struct InterleavedPart {
    int64_t token_begin, token_end, block_begin, block_end;
};

// Inputs are copied, where they have to be, into a panel whose rows can be read past the last column.
static inline int64_t panel_stride(const InterleavedShape& s) { return (s.cols / 32 + 2) * 32; }

// Tokens that stay in the second-level cache while the weights pass once, a multiple of 12 (the tallest tile).
static inline int64_t chunk_tokens(const InterleavedShape& s) {
    constexpr int64_t kCacheBytes = 384 * 1024, kTallest = 12;
    const int64_t tokens = kCacheBytes / (panel_stride(s) * (s.width == 1 ? 4 : 2)) / kTallest * kTallest;
    return tokens < kTallest ? kTallest : tokens;
}

static inline int64_t panel_bytes(const InterleavedShape& s, int64_t tokens) {
    const int64_t chunk = chunk_tokens(s);
    return panel_stride(s) * (tokens < chunk ? tokens : chunk) * (s.width == 1 ? 4 : 2);
}

// `panel` has panel_bytes, 64-byte aligned.
void nm_linear_avx512(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                      float* panel);  // width 1, any element type
void nm_linear_avx512_bf16(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                           uint16_t* panel);  // width 2, bf16

// Expander (cpu/strip/strip.h) of width 2 where m divides 32, so that a span is a window; StripReader::weight is an
// InterleavedWeight.
void expand_pairs_avx512(StripReader& reader, int64_t column, void* out, int64_t stride);

}  // namespace sparsecore::cpu
