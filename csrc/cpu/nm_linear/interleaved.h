// The resident layout of the AVX-512 kernel: 16 rows interleaved, so that one vector holds the same kept value ("slot")
// of 16 outputs, and short position codes beside it.
//
//   values [row blocks][kept per row][16]              element type of the weight; rows past the end are zero
//   codes  [row blocks][spans][code words][16] uint16  position within its group of m inputs, `bits` bits a slot
//
// A span is the inputs that one permutation reaches: the largest multiple of m up to 16, or m itself (two registers)
// for m > 16. The slots of a span start a new code word, each word holds floor(16 / bits) codes, lowest bits first.
// 2:4 in fp32: 4.25 bytes a kept value, 53 % of dense; in 16-bit types 56 %.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

constexpr int64_t kLanes = 16;

struct InterleavedShape {
    int64_t rows, cols, n, m;
    int64_t kept;            // slots of a row
    int64_t row_blocks;      // of 16 rows
    int64_t span;            // inputs of a full span
    int64_t spans;
    int64_t span_slots;      // slots of a full span
    int64_t bits, word_codes, span_words;
};

static inline InterleavedShape interleaved_shape(int64_t rows, int64_t cols, int64_t n, int64_t m) {
    InterleavedShape s{};
    s.rows = rows;
    s.cols = cols;
    s.n = n;
    s.m = m;
    const int64_t tail = cols % m;
    s.kept = cols / m * n + (tail < n ? tail : n);
    s.row_blocks = rows / kLanes + (rows % kLanes != 0);
    s.span = m > 16 ? m : 16 / m * m;
    s.spans = cols / s.span + (cols % s.span != 0);
    s.span_slots = s.span / m * n;
    for (s.bits = 1; (int64_t{1} << s.bits) < m;) ++s.bits;
    s.word_codes = 16 / s.bits;
    s.span_words = s.span_slots / s.word_codes + (s.span_slots % s.word_codes != 0);
    return s;
}

// Element index of a slot's first lane.
static inline int64_t value_index(const InterleavedShape& s, int64_t row_block, int64_t slot) {
    return (row_block * s.kept + slot) * kLanes;
}

struct CodePlace {
    int64_t index;  // of the uint16 word of lane 0
    int shift;
};
static inline CodePlace code_place(const InterleavedShape& s, int64_t row_block, int64_t slot) {
    const int64_t span = slot / s.span_slots, in_span = slot % s.span_slots;
    return {((row_block * s.spans + span) * s.span_words + in_span / s.word_codes) * kLanes,
            static_cast<int>(in_span % s.word_codes * s.bits)};
}

// Rows [16 * block_begin, 16 * block_end) of all tokens. `panel` has room for interleaved_panel_floats.
struct InterleavedWeight {
    InterleavedShape shape;
    core::DType dtype;
    const void* values;
    const uint16_t* codes;
};
int64_t interleaved_panel_floats(const InterleavedShape& shape, int64_t tokens);
void nm_linear_avx512(const LinearCall& call, const InterleavedWeight& weight, int64_t token_begin, int64_t token_end,
                      int64_t block_begin, int64_t block_end, float* panel);

}  // namespace sparsecore::cpu
