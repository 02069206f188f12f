// What a launch of the prefill kernels takes, in plain data; strides are in elements, pointers are device memory.
#pragma once

#include <cstdint>

namespace sparsecore::cuda {

// Elements [batch, head, token, column] of q, k or v.
struct PrefillTensor {
    const void* data;
    std::int64_t batch_stride, head_stride, token_stride, column_stride;
    bool in_units;  // columns are consecutive, and every token begins at a multiple of 16 bytes
};

// Which keys a query may see at all: those of the key blocks that its block of queries lists.
struct PrefillLists {
    const std::int64_t* offsets;  // [batches, heads, query blocks + 1] places in `indices`; null: every key
    const std::int32_t* indices;  // key blocks
    std::int64_t batch_stride, head_stride;  // of offsets; 0 where one list serves all
    std::int64_t count;                      // of indices
    int query_block, key_block;              // tokens in a block
};

struct PrefillArgs {
    PrefillTensor q, k, v;
    void* out;                    // [batch, head, query, value_width]
    float* lse;                   // [batch, head, query]
    std::uint64_t* token_scores;  // [batch, head, key] or null; added to
    std::uint64_t* head_scores;   // [batch, head] or null; added to
    std::uint8_t* used;           // [batch, head, key] or null: 1 where a counted query multiplied the value
    const std::uint8_t* mask;     // or null
    std::int64_t mask_batch_stride, mask_head_stride, mask_query_stride, mask_key_stride;
    const std::uint8_t* counted;  // or null
    std::int64_t counted_batch_stride, counted_query_stride;
    PrefillLists lists;
    std::int64_t* odd_count;      // queries whose sums are infinite or NaN, ...
    std::int64_t* odd_queries;    // ... and which, as (batch * heads + head) * queries + query
    float* scratch;               // of the plain kernel: scratch_stride floats for each of its blocks
    std::int64_t scratch_blocks, scratch_stride;
    int batch, heads, key_heads, queries, keys, width, value_width;
    bool causal, negative;  // scores are (negative ? -1 : 1) scale q k
    float scale, slope;     // scale > 0, and scale * log2(e)
    double value_keep;
};

// A warp of the tensor-core kernels works on 16 queries and 64 keys at a time: a strip.
constexpr int kStripQueries = 16, kStripKeys = 64;

// The plain kernel works on so many queries at a time.
constexpr int kPlainQueries = 8, kPlainThreads = 128;
constexpr int kPlainMostWidth = 512;

// Floats of one of its blocks: a weight of each query for every key, to the end of the last block of a list.
constexpr std::int64_t prefill_scratch_stride(std::int64_t keys) { return (keys + 127) / 128 * 128 * kPlainQueries; }

}  // namespace sparsecore::cuda
