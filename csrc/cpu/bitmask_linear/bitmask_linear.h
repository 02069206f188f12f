// Linear layer with unstructured sparsity: only non-zero weights contribute.
//
// Two layouts. The stored form (csrc/formats/bitmask.h) runs everywhere. The indexed one has, for every value, its column
// within a chunk of kChunk columns, in one byte, and for every row and chunk how many values there are. Vector kernels
// work on such lists; from a bitmask they make them as they go.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

constexpr int64_t kChunk = 128;  // columns

static inline int64_t chunk_count(int64_t cols) { return cols / kChunk + (cols % kChunk != 0); }

struct BitmaskWeight {
    core::DType dtype = core::DType::F32;
    int64_t rows = 0, cols = 0, nnz = 0;
    const void* values = nullptr;
    const int64_t* row_offsets = nullptr;  // [rows]
    const uint8_t* bitmask = nullptr;      // [rows, ceil(cols / 8)], little bit order; null: the two below
    const uint8_t* columns = nullptr;      // [nnz], column % kChunk, ascending in each chunk of a row
    const uint8_t* counts = nullptr;       // [rows, chunks]
};

static inline int64_t row_start(const BitmaskWeight& w, int64_t row) { return row < w.rows ? w.row_offsets[row] : w.nnz; }

// Whether the chunks of a row have more than so many values now and then. For speed only.
static inline bool often_more_than(int64_t count, const BitmaskWeight& w) {
    const double places = static_cast<double>(w.rows) * static_cast<double>(w.cols);
    return static_cast<double>(w.nnz) * static_cast<double>(kChunk) > 0.7 * static_cast<double>(count) * places;
}

// The lists of a validated bitmask, and the reverse into a zeroed bitmask.
void bitmask_to_lists(const uint8_t* bitmask, int64_t rows, int64_t cols, uint8_t* columns, uint8_t* counts);
void lists_to_bitmask(const uint8_t* columns, const uint8_t* counts, int64_t rows, int64_t cols, uint8_t* bitmask);

void bitmask_linear_portable(const LinearCall& call, const BitmaskWeight& weight);
void bitmask_linear_avx2(const LinearCall& call, const BitmaskWeight& weight);
void bitmask_linear_avx512(const LinearCall& call, const BitmaskWeight& weight);
void bitmask_linear_amx(const LinearCall& call, const BitmaskWeight& weight);

}  // namespace sparsecore::cpu
