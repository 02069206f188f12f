// What the kernels that change a store take, in plain data; pointers are device memory.
#pragma once

#include "cuda/attention/decode/args.h"

namespace sparsecore::cuda::decode {

constexpr int kStoreParts = 6;  // most tensors of a store

// New tokens [batch, kv_heads, tokens, width] of one kind, and how the store holds them.
struct NewRows {
    const void* data = nullptr;
    std::int64_t batch_stride = 0, head_stride = 0, token_stride = 0, last_stride = 0;
    int width = 0;
    core::DType type = core::DType::F32;
    int bits = 0;      // of the integers; 0: dense, of stored_type
    core::DType stored_type = core::DType::F32;
    Part dense, scale;  // bits 0: the rows; else the int8 rows of values, and the scales
};

struct AppendArgs {
    std::int64_t batch, kv_heads, tokens, slots;
    const std::int64_t* positions;
    std::int64_t position_stride;
    NewRows keys, values;
    KeyPlanes planes;  // of the keys, where they are integers
    Paging paging;
};

// A tensor whose rows move; `unit` bytes, 1, 4 or 16, at a time.
struct MovedPart {
    Part part;
    int unit = 1;
};

struct CompactArgs {
    std::int64_t batch, kv_heads, slots, most_rows;
    int parts;
    MovedPart moved[kStoreParts];
    const std::int64_t *index, *counts;
    std::int64_t index_batch_stride, index_stride, count_stride;
};

}  // namespace sparsecore::cuda::decode
