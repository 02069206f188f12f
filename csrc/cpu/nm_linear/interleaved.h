// The resident layouts of the AVX2 and AVX-512 kernels: 16 rows interleaved, so that one vector holds the same kept
// values ("slots") of 16 outputs, and short position codes beside them.
//
//   values [row blocks][steps][16][width]         element type of the weight
//   codes  [row blocks][words][16][width] uint16  position within its group of m inputs, `bits` bits a slot
//
// A step is one multiply-add instruction: `width` slots of 16 rows (1 in fp32 arithmetic, 2 where bf16 pairs are
// multiplied). The last row block is as narrow as the rows that are left. A word holds the codes of floor(16 / bits) steps, lowest bits first. 2:4 in fp32: 4.25 bytes a kept value,
// 53 % of dense; in 16-bit types 56 %.
//
// A span is the inputs that one permutation reaches. In it a group takes `pitch` elements, the power of two at or above m,
// so that a code becomes the index of an element by a bitwise or; where m is a power of two the inputs lie as they come.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/linear_call.h"
#include "cpu/strip/strip.h"

namespace sparsecore::cpu {

constexpr int64_t kLanes = 16;

struct InterleavedShape {
    int64_t rows, cols, n, m;
    int64_t width, reach;  // reach: elements of a register, 16 * width
    int64_t row_blocks;    // of 16 rows
    int64_t kept;          // slots of a row
    int64_t steps;         // of a row; kept = steps * width where the layout is used
    int64_t pitch;
    int64_t span, spans;             // inputs of a span
    int64_t span_steps, span_width;  // of a full span; span_width: its elements, one register or (m > reach) two
    int64_t bits, word_codes, words;
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
    for (s.bits = 1; (int64_t{1} << s.bits) < m;) ++s.bits;
    s.pitch = int64_t{1} << s.bits;
    s.span_width = s.pitch > s.reach ? s.pitch : s.reach;
    s.span = s.span_width / s.pitch * m;
    s.spans = cols / s.span + (cols % s.span != 0);
    s.span_steps = s.span_width / s.pitch * n / width;
    s.word_codes = 16 / s.bits;
    s.words = s.steps / s.word_codes + (s.steps % s.word_codes != 0);
    return s;
}

// Rows of a row block.
static inline int64_t block_lanes(const InterleavedShape& s, int64_t row_block) {
    const int64_t left = s.rows - row_block * kLanes;
    return left < kLanes ? left : kLanes;
}

static inline int64_t value_index(const InterleavedShape& s, int64_t row_block, int64_t slot, int64_t lane) {
    const int64_t step = slot / s.width, lanes = block_lanes(s, row_block);
    return (row_block * s.steps * kLanes + step * lanes + lane) * s.width + slot % s.width;
}

struct CodePlace {
    int64_t index;  // of the uint16 word
    int shift;
};
static inline CodePlace code_place(const InterleavedShape& s, int64_t row_block, int64_t slot, int64_t lane) {
    const int64_t step = slot / s.width, word = step / s.word_codes, lanes = block_lanes(s, row_block);
    return {(row_block * s.words * kLanes + word * lanes + lane) * s.width + slot % s.width,
            static_cast<int>(step % s.word_codes * s.bits)};
}

struct InterleavedWeight {
    InterleavedShape shape;
    core::DType dtype;
    const void* values;
    const uint16_t* codes;
};

struct InterleavedPart {
    int64_t token_begin, token_end, block_begin, block_end;
    int64_t panel_tokens;  // at a time
};

constexpr int64_t kTallestTile = 16;  // tokens

// The AVX2 kernel for many tokens works on as many tokens, columns and row blocks at a time.
constexpr int64_t kTransposedTokens = 48, kTransposedColumns = 96, kTransposedBlocks = 64;

// Scratch of one thread.
struct InterleavedScratch {
    void* inputs;  // packed inputs, in the type of the arithmetic: scratch_input_bytes
    float* sums;   // scratch_sums
};

static inline int64_t panel_row_bytes(const InterleavedShape& s) {
    return s.spans * s.span_width * (s.width == 1 ? 4 : 2) + 128;  // 128: read past the end by AVX2
}

// Tokens that stay in the second-level cache while the weights pass once: a multiple of the tallest tile, and less only
// where a single row is so long that all threads together would hold more than 32 MiB.
static inline int64_t panel_tokens(const InterleavedShape& s, int64_t tokens, int threads) {
    constexpr int64_t kCacheBytes = 640 * 1024, kMostBytes = 28 * 1024 * 1024;
    const int64_t row = panel_row_bytes(s), fitting = kCacheBytes / row / kTallestTile * kTallestTile;
    const int64_t wanted = fitting < kTallestTile ? kTallestTile : fitting, most = kMostBytes / (row * threads);
    const int64_t count = wanted < most ? wanted : most < 1 ? 1 : most;
    return count < tokens ? count : tokens;
}

// One instruction set's kernel, for the tokens and row blocks of one thread.
void nm_linear_avx2(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                    const InterleavedScratch& scratch);  // width 1, any element type
void nm_linear_avx2_few(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                        float* panel);  // the same for few tokens
void nm_linear_avx512(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                      const InterleavedScratch& scratch);  // width 1, any element type
void nm_linear_avx512_bf16(const LinearCall& call, const InterleavedWeight& weight, const InterleavedPart& part,
                           const InterleavedScratch& scratch);  // width 2, bf16

// Expander (cpu/strip/strip.h) of width 2 where m divides 32, so that a span is a window; StripReader::weight is an
// InterleavedWeight.
void expand_pairs_avx512(StripReader& reader, int64_t column, void* out, int64_t stride);

}  // namespace sparsecore::cpu
