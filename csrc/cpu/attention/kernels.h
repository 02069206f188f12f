// What dispatch.cpp hands to the kernels: a checked problem and memory. Heads are counted over batch and head.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace sparsecore::cpu {

constexpr int64_t kKeyBlock = 64;

struct AttentionTensor {
    void* data = nullptr;
    int64_t batch_stride = 0, head_stride = 0, token_stride = 0, column_stride = 0;
};

struct AttentionProblem {
    core::DType dtype = core::DType::F32;
    int64_t batch = 0, heads = 0, queries = 0, keys = 0, width = 0, value_width = 0;
    AttentionTensor q, k, v, out, mask, sums, needs;  // mask.data null: none; mask.token_stride 0: one row for all
    float scale = 1.0f, threshold = 0.0f;
    int msb_bits = 0, lsb_bits = 0;
};

// Offset of a token of a head, in elements.
static inline int64_t token_offset(const AttentionProblem& p, const AttentionTensor& t, int64_t head, int64_t token) {
    return head / p.heads * t.batch_stride + head % p.heads * t.head_stride + token * t.token_stride;
}

static inline int64_t round_up_to(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }
static inline int64_t padded_keys(const AttentionProblem& p) { return round_up_to(p.keys, kKeyBlock); }
static inline int64_t padded_values(const AttentionProblem& p) { return round_up_to(p.value_width, 64); }
static inline int64_t padded_width(const AttentionProblem& p) { return round_up_to(p.width > 0 ? p.width : 1, 32); }

// Queries that are worked on together: their scores stay in the second-level cache. Depends on the shape only, since
// column sums are added up tile by tile.
static inline int64_t query_tile(const AttentionProblem& p) {
    const int64_t fit = 64 * 1024 / (padded_keys(p) + 1) / 4 * 4;
    return fit < 4 ? 4 : fit > 32 ? 32 : fit;
}
static inline int64_t query_tiles(const AttentionProblem& p) {
    return round_up_to(p.queries, query_tile(p)) / query_tile(p);
}

// Memory of one call. The integers of a head fill padded_keys * padded_width elements in the kernel's own order.
struct AttentionKeys {
    int16_t* high = nullptr;
    int16_t* whole = nullptr;     // the same as high where there are no low bits
    float* scales = nullptr;      // [all heads, padded_keys]
    float* values = nullptr;      // [all heads, keys, value_width] fp32; null: p.v is used as it lies
    float* tile_sums = nullptr;   // [all heads, query tiles, padded_keys]
};

// Memory of one thread: q integers [tile, padded_width], their scales [tile], scores [tile, padded_keys], results
// [tile, padded_values], and a row of padded_width * 16 floats for the kernel's use.
struct AttentionScratch {
    int16_t* queries = nullptr;
    float* query_scales = nullptr;
    float* scores = nullptr;
    float* sums = nullptr;
    float* row = nullptr;
};

struct AttentionKernels {
    // Quantises keys [block * kKeyBlock, + kKeyBlock) of a head and converts its values.
    void (*prepare)(const AttentionProblem&, const AttentionKeys&, const AttentionScratch&, int64_t head, int64_t block);
    // Everything for one tile of queries of a head.
    void (*run)(const AttentionProblem&, const AttentionKeys&, const AttentionScratch&, int64_t head, int64_t tile);
};

AttentionKernels attention_portable();
AttentionKernels attention_avx512();

// Steps 1 and 2 of attention.h for one token, the same in all kernels.
struct Quantised {
    float scale;
    bool finite;
};
static inline Quantised token_scale(float largest, int bits) {
    const bool finite = largest <= 3.402823466e38f;
    if (!finite) return {core::bits_float(0x7fc00000u), false};
    const float scale = largest / static_cast<float>((1 << (bits - 1)) - 1);
    return {scale == 0.0f ? 1.0f : scale, true};
}
static inline int32_t high_part(int32_t key, int lsb_bits) {
    return lsb_bits == 0 ? key : ((key >> lsb_bits) * (1 << lsb_bits)) + (1 << (lsb_bits - 1));
}

}  // namespace sparsecore::cpu
