// int8 weights in their stored form, of any kind: strips of 16 rows are made dense in scratch (cpu/strip/strip.h) and met by
// all tokens.
#pragma once

#include "cpu/int8_linear/quads.h"
#include "cpu/strip/strip.h"

namespace sparsecore::cpu {

// A weight in its stored form, as the expanders read it.
struct StoredRows {
    int64_t rows, cols, n, m;      // n, m: N:M; block rows and columns: blocks
    int64_t count;                 // values (blocks: blocks) stored
    const int8_t* values;
    const uint8_t* positions;      // bitmask or codes
    const int32_t* block_columns;
    const int64_t* offsets;        // of rows or block rows; null for N:M
};

// Scratch of one thread: a panel of two strips with every window, and the windows' first columns.
static inline int64_t strip_windows(int64_t cols) { return cols / 64 + (cols % 64 != 0); }
static inline int64_t strip_scratch_bytes(int64_t cols) { return strip_windows(cols) * (2 * kWindowBytes + 64); }

// Rows 16 * strip_begin .. 16 * strip_end - 1 for all `tokens`; `scales` [rows] of the weight.
void int8_strips_avx512(const LinearCall& call, const StripSource& source, const float* scales, const OffsetTokens& tokens,
                        int64_t strip_begin, int64_t strip_end, uint8_t* scratch);

StripSource int8_bitmask_strips(const StoredRows& weight);  // N:M and unstructured
StripSource int8_code_strips(const StoredRows& weight);
StripSource int8_block_strips(const StoredRows& weight);

}  // namespace sparsecore::cpu
