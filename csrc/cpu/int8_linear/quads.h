// The resident layout of int8 N:M weights for AVX-512: 16 rows interleaved, a step is four kept values ("slots") of each of
// them, one vpdpbusd.
//
//   values      [row blocks][steps][16][4]        int8; rows past the end are zero
//   codes       [row blocks][spans][words][16][4] uint8   position within its group of m inputs, `bits` bits a slot
//   scales      [row blocks][16]                  fp32
//   corrections [row blocks][16]                  int32   -128 * sum of the row's values
//
// Inputs are multiplied as unsigned bytes q + 128: a sum starts at its correction and ends as the sum over q. A span is the
// inputs that one permutation of bytes reaches: 64 / m * m of them. The steps of a span start a new word of codes, which
// serves 8 / bits steps, lowest bits first. 2:4: as many bytes as the stored form, and 4 more a row.
#pragma once

#include <cstdint>

#include "cpu/common/linear_call.h"
#include "cpu/layout.h"

namespace sparsecore::cpu {

constexpr int64_t kQuadRows = 16, kQuadSlots = 4, kQuadReach = 64;
constexpr int64_t kQuadBytes = kQuadRows * kQuadSlots;
constexpr int32_t kInputOffset = 128;

struct QuadShape {
    int64_t rows, cols, n, m;
    int64_t row_blocks;
    int64_t kept, steps;                    // slots and steps of a row; kept = 4 * steps where the layout is used
    int64_t span, spans;                    // inputs of a full span, spans of a row
    int64_t span_slots, span_steps;         // of a full span
    int64_t bits, word_steps, span_words;   // of a code; steps that share a word; words of a span
};

static inline QuadShape quad_shape(int64_t rows, int64_t cols, int64_t n, int64_t m) {
    QuadShape s{};
    s.rows = rows;
    s.cols = cols;
    s.n = n;
    s.m = m;
    s.row_blocks = rows / kQuadRows + (rows % kQuadRows != 0);
    s.kept = cols / m * n + (cols % m < n ? cols % m : n);
    s.steps = s.kept / kQuadSlots;
    s.span = kQuadReach / m * m;
    s.spans = cols / s.span + (cols % s.span != 0);
    s.span_slots = s.span / m * n;
    s.span_steps = s.span_slots / kQuadSlots;
    for (s.bits = 1; (int64_t{1} << s.bits) < m;) ++s.bits;
    s.word_steps = 8 / s.bits;
    s.span_words = s.span_steps / s.word_steps + (s.span_steps % s.word_steps != 0);
    return s;
}

static inline int64_t quad_value(const QuadShape& s, int64_t row, int64_t slot) {
    const int64_t step = row / kQuadRows * s.steps + slot / kQuadSlots;
    return (step * kQuadRows + row % kQuadRows) * kQuadSlots + slot % kQuadSlots;
}

struct QuadCode {
    int64_t index;  // of the byte
    int shift;
};
static inline QuadCode quad_code(const QuadShape& s, int64_t row, int64_t slot) {
    const int64_t span = slot / s.span_slots, step = slot % s.span_slots / kQuadSlots;
    const int64_t word = (row / kQuadRows * s.spans + span) * s.span_words + step / s.word_steps;
    return {(word * kQuadRows + row % kQuadRows) * kQuadSlots + slot % kQuadSlots,
            static_cast<int>(step % s.word_steps * s.bits)};
}

struct QuadWeight {
    QuadShape shape;
    const int8_t* values;
    const uint8_t* codes;
    const float* scales;
    const int32_t* corrections;
};

// Quantised tokens [count][stride] as q + 128, readable up to the last span's 64 inputs; one scale a token.
struct OffsetTokens {
    const uint8_t* values;
    int64_t stride;
    const float* scales;
    int64_t begin, end;  // tokens of the call
};

// An odd number of cache lines, so that equal columns of neighbouring tokens do not share a cache set.
static inline int64_t offset_token_bytes(int64_t cols) { return (cols / kQuadReach + 2) * kQuadReach | kQuadReach; }

void int8_quantise_avx512(const LinearCall& call, int64_t begin, int64_t end, uint8_t* values, float* scales);
void int8_quads_avx512(const LinearCall& call, const QuadWeight& weight, const OffsetTokens& tokens, int64_t block_begin,
                       int64_t block_end);

// N:M where it fits, and the stored form of any kind read by the kernel of strips.
Layout int8_quads_layout();
Layout int8_strips_layout(formats::Kind kind);
// The same bytes for AMX.
Layout int8_quads_tiles_layout();
Layout int8_strips_tiles_layout(formats::Kind kind);

}  // namespace sparsecore::cpu
