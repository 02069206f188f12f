// What the kernels of decode attention take, in plain data; pointers are device memory.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace sparsecore::cuda::decode {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kQueries = 8;   // query heads of a key head that a block handles at once: one a warp where each has its own
constexpr int kWidth = 256;   // most dimensions of a key or a value
constexpr int kGroup = 128;   // most query heads of a key head

// A tensor of the store: a row is contiguous, strides are in bytes. Its owner is a sequence, or a page of a paged store.
struct Part {
    std::uint8_t* data = nullptr;
    std::int64_t owner_stride = 0, head_stride = 0, row_stride = 0;
    int bytes = 0;         // of a row
    bool aligned = false;  // every row begins at a multiple of 16 bytes
};

// Any other tensor; strides in elements.
struct Tensor {
    void* data = nullptr;
    std::int64_t batch_stride = 0, head_stride = 0, last_stride = 0;
};

// Where the rows of a sequence lie. Without a table sequence b owns the slots 0 ... slots - 1 of owner b; with one, slot s
// is row s % 2^page_bits of the page in entry s / 2^page_bits of the sequence's row of the table.
struct Paging {
    const std::int32_t* table = nullptr;
    std::int64_t batch_stride = 0, entry_stride = 0;
    std::int64_t pages = 0;
    int page_bits = 0;
};

// How a key lies: `planes` of bits with their scale, of which the last is the low one, or dense (none).
struct KeyPlanes {
    Part plane[3];
    int planes = 0;
    int first_offset = 0;  // what an element of the first plane has too much
    int rest_bits = 0;     // of the plane between the first and the low one; 0: there is none
};

// log2 of the sum of exp2(score) as largest + log2(sum).
struct Sums {
    float largest, sum;
};

// A query multiplies the V rows whose probability has bits above `bits`, and those of the first `ties_end` that have them.
struct Cut {
    std::uint32_t bits;
    std::int32_t ties_end;
    std::int32_t count;
};

struct Args {
    std::int64_t batch, heads, kv_heads;
    int group, chunks;          // query heads of a key head, in chunks of kQueries
    int width, value_width;     // dimensions
    std::int64_t slots;         // that starts and lengths may cover
    std::int64_t most_rows;     // R of selected rows, else slots
    int splits;                 // of a sequence's rows
    core::DType type, value_type;  // of q and out; value_type I8: with scales
    KeyPlanes keys;
    Part dense_keys, key_scales, values, value_scales;
    Paging paging;
    const std::int64_t *starts, *lengths, *rows, *row_counts;  // rows and row_counts may be null
    std::int64_t start_stride, length_stride, rows_batch_stride, rows_stride, row_count_stride;
    const std::uint8_t* kept;  // [batch, heads], 0: pruned; null: all kept
    std::int64_t kept_batch_stride, kept_head_stride;
    Tensor q, out, lse, token_scores, head_scores, low, values_used;  // either of the scores may be absent
    float scale, threshold, value_mass;
    double value_keep;
    bool group_values;
    // Workspace: scores in units of log 2, sums of the splits (and those of the low pass), the sums of a group's
    // probabilities, which V rows count, sums of the splits over V rows.
    float* scores;    // [batch, heads, most_rows]
    Sums *first, *again;  // [batch, splits, heads]
    float* shares;    // [batch, kv_heads, most_rows], with group_values
    Cut* cuts;        // [batch, heads], where values are pruned; null: none is
    float* sums;      // [batch, splits, heads, value_width]
};

}  // namespace sparsecore::cuda::decode
