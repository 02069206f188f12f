// What the loops of panels.cpp call: the kernels of one instruction set.
#pragma once

#include "cpu/bitmask_linear/bitmask_linear.h"

namespace sparsecore::cpu {

// Some rows as they are in the weight, row by row.
struct RowLists {
    const void* values;      // of the weight's element type
    const uint8_t* columns;  // within their chunk
    const uint8_t* counts;   // [rows, chunks]
};

// A panel of rows, chunk by chunk, and row by row in each: a tile of activations then stays in the first-level cache.
struct ChunkLists {
    float* values;
    uint8_t* columns;
    int64_t* places;  // [chunks] where the next values of each chunk go
};

// A group of rows with whole column numbers.
struct FlatLists {
    const float* values;
    const uint16_t* columns;
    const int64_t* counts;  // [rows]
};
// What the next group of rows will read: asked for while this one is multiplied, as too little runs ahead otherwise.
struct Ahead {
    const char* address[2];
    int64_t bytes[2];
};

// The part that goes with row `row` of `rows`.
template <class Prefetch>
static inline void ask_ahead(const Ahead& ahead, int64_t row, int64_t rows, Prefetch prefetch) {
    for (int i = 0; i < 2; ++i) {
        const int64_t end = ahead.bytes[i] * (row + 1) / rows;
        for (int64_t at = ahead.bytes[i] * row / rows; at < end; at += 64) prefetch(ahead.address[i] + at);
    }
}

struct FlatScratch {
    float* values;
    uint16_t* columns;
    int64_t* counts;
};

constexpr int64_t kListSlack = 128;  // elements after lists made here that may be written as well
constexpr int64_t kRowGroup = 16;    // rows of few_rows and of flat_rows
constexpr int64_t kTileVectors = 4;  // most vectors of tokens that a tile has
constexpr int64_t kFlatColumns = 65536;

struct BitmaskKernels {
    int64_t lanes;  // tokens in a vector

    // Columns and counts of `rows` rows of a bitmask.
    void (*decode)(const uint8_t* bitmask, int64_t rows, int64_t cols, uint8_t* columns, uint8_t* counts);
    // dense: chunks of a row have more than 32 values now and then; for speed only.
    void (*to_chunks)(core::DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool dense,
                      const ChunkLists& out);
    FlatLists (*flatten)(core::DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool dense,
                         const FlatScratch& out);

    // Tokens are the lanes. tile: [cols][width], zero where there is no token; sums: [rows][width]. Of width, a number of
    // tokens, flat_rows takes 8 and up to two vectors, and its sums are at least a vector apart.
    void (*pack)(const LinearCall& call, int64_t token, int64_t count, int64_t width, float* tile);
    void (*flat_rows)(const FlatLists& lists, const Ahead& ahead, int64_t rows, int64_t width, const float* tile,
                      float* sums);
    void (*chunk_rows)(const float* values, const uint8_t* columns, const uint8_t* counts, int64_t rows, int64_t width,
                       const float* tile, float* sums);  // adds to sums
    void (*store)(const LinearCall& call, const float* sums, int64_t width, int64_t token, int64_t count, int64_t row,
                  int64_t rows);

    // At most few_tokens tokens, all of them, and kRowGroup rows; x: [tokens][chunks * kChunk]. Null where that is 0.
    int64_t few_tokens;
    void (*pack_few)(const LinearCall& call, void* x);
    void (*few_rows)(const LinearCall& call, const RowLists& lists, int64_t row, int64_t rows, double density,
                     const void* x);
};

void bitmask_linear(const LinearCall& call, const BitmaskWeight& weight, const BitmaskKernels& kernels);

void bitmask_decode_avx512(const uint8_t* bitmask, int64_t rows, int64_t cols, uint8_t* columns, uint8_t* counts);
void bitmask_to_chunks_avx512(core::DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool dense,
                              const ChunkLists& out);
FlatLists bitmask_flatten_avx512(core::DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool dense,
                                 const FlatScratch& out);
void bitmask_pack_avx512(const LinearCall& call, int64_t token, int64_t count, int64_t width, float* tile);
void bitmask_flat_rows_avx512(const FlatLists& lists, const Ahead& ahead, int64_t rows, int64_t width, const float* tile,
                              float* sums);
void bitmask_chunk_rows_avx512(const float* values, const uint8_t* columns, const uint8_t* counts, int64_t rows,
                               int64_t width, const float* tile, float* sums);
void bitmask_store_avx512(const LinearCall& call, const float* sums, int64_t width, int64_t token, int64_t count,
                          int64_t row, int64_t rows);
void bitmask_pack_few_avx512(const LinearCall& call, void* x);
void bitmask_few_rows_avx512(const LinearCall& call, const RowLists& lists, int64_t row, int64_t rows, double density,
                             const void* x);
void bitmask_few_rows_avx512_bf16(const LinearCall& call, const RowLists& lists, int64_t row, int64_t rows,
                                  double density, const void* x);

void bitmask_decode_avx2(const uint8_t* bitmask, int64_t rows, int64_t cols, uint8_t* columns, uint8_t* counts);
void bitmask_to_chunks_avx2(core::DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool dense,
                            const ChunkLists& out);
FlatLists bitmask_flatten_avx2(core::DType dtype, const RowLists& lists, int64_t rows, int64_t chunks, bool dense,
                               const FlatScratch& out);
void bitmask_pack_avx2(const LinearCall& call, int64_t token, int64_t count, int64_t width, float* tile);
void bitmask_flat_rows_avx2(const FlatLists& lists, const Ahead& ahead, int64_t rows, int64_t width, const float* tile,
                            float* sums);
void bitmask_chunk_rows_avx2(const float* values, const uint8_t* columns, const uint8_t* counts, int64_t rows,
                             int64_t width, const float* tile, float* sums);
void bitmask_store_avx2(const LinearCall& call, const float* sums, int64_t width, int64_t token, int64_t count,
                        int64_t row, int64_t rows);

}  // namespace sparsecore::cpu
