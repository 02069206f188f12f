// What prefill_dispatch.cpp hands to the kernels: a checked problem and memory. Static functions only: kernel files of
// every instruction set include it.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/attention/scores.h"

namespace sparsecore::cpu {

// Keys come in blocks: one word of bits says which of them a query sees. Also the columns of a panel, see below.
constexpr int64_t kPrefillBlock = 64;

struct PrefillTensor {
    void* data = nullptr;
    int64_t batch_stride = 0, head_stride = 0, token_stride = 0;  // in elements; columns are neighbours
};

struct PrefillProblem {
    core::DType dtype = core::DType::F32;
    int64_t batch = 0, heads = 0, key_heads = 0, queries = 0, keys = 0, width = 0, value_width = 0;
    PrefillTensor q, k, v, out, lse;
    PrefillTensor mask;     // u8; data null: none
    PrefillTensor counted;  // u8, no heads; data null: all are
    bool causal = false, token_scores = false, head_scores = false;
    float scale = 1.0f;
    double value_keep = 1.0;
};

static inline int64_t blocks(const PrefillProblem& p) { return (p.keys + kPrefillBlock - 1) / kPrefillBlock; }
static inline int64_t padded_keys(const PrefillProblem& p) { return blocks(p) * kPrefillBlock; }
static inline int64_t padded_width(const PrefillProblem& p) { return (p.width + 31) / 32 * 32; }
static inline int64_t panels(const PrefillProblem& p) { return (p.value_width + kPrefillBlock - 1) / kPrefillBlock; }
// Rows of scores are no power of two apart, so that a column of them does not fall into one set of the cache.
static inline int64_t row_stride(const PrefillProblem& p) { return padded_keys(p) + 32; }
static inline int64_t key_head(const PrefillProblem& p, int64_t head) {
    return head / p.heads * p.key_heads + head % p.heads / (p.heads / p.key_heads);
}

// Offset of a token, in elements; `head` counts over batch and head, of `heads` in the batch.
static inline int64_t prefill_offset(const PrefillTensor& t, int64_t heads, int64_t head, int64_t token) {
    return head / heads * t.batch_stride + head % heads * t.head_stride + token * t.token_stride;
}

// Keys and values of one key head in panels [depth][kPrefillBlock columns]. A row of a panel holds one element of every
// column in fp32, or two bf16 elements of every column side by side, for instructions that multiply pairs:
//   keys    [blocks] panels of padded_width depth, a column for each key; what is not there is zero
//   values  [panels] panels of padded_keys depth, a column for each value column; zero also in place of inf and NaN
struct PrefillKeys {
    void *keys = nullptr, *values = nullptr;
    bool finite = true;  // no value was inf or NaN
};

// Memory of one thread, for `rows` queries.
struct PrefillScratch {
    void* queries = nullptr;      // [rows, padded_width] as the kernel multiplies them
    float* scores = nullptr;      // [rows, row_stride], then exp(score - largest)
    void* weights = nullptr;      // the same as the kernel multiplies them
    float* sums = nullptr;        // [rows, panels * kPrefillBlock]
    uint64_t* seen = nullptr;     // [rows, blocks] bits
    int32_t* active = nullptr;    // [blocks] which blocks any query of the tile sees
    // Results of a head, which grow from tile to tile.
    int32_t* tokens = nullptr;    // [padded_keys]
    uint64_t* used = nullptr;     // [blocks] bits
    int64_t head_score = 0;
};

struct PrefillKernels {
    int64_t rows = 0;   // queries of a tile
    int64_t item = 0;   // bytes of an element of packed keys and values; 0: nothing is packed
    // Packs one block of keys of a key head, and its values; false if one of these is not finite.
    bool (*pack)(const PrefillProblem&, const PrefillKeys&, int64_t key_head, int64_t block) = nullptr;
    // Everything for one tile of queries of a head.
    void (*run)(const PrefillProblem&, const PrefillKeys&, PrefillScratch&, int64_t head, int64_t tile) = nullptr;
};

PrefillKernels prefill_portable();
PrefillKernels prefill_avx2();
PrefillKernels prefill_avx512();
PrefillKernels prefill_avx512_bf16();
PrefillKernels prefill_amx();

static inline bool prefill_counted(const PrefillProblem& p, int64_t head, int64_t query) {
    if (p.counted.data == nullptr) return true;
    return static_cast<const uint8_t*>(p.counted.data)[prefill_offset(p.counted, p.heads, head, query)] != 0;
}

// Bits of the keys of a block that exist and, where causal, are not after the query.
static inline uint64_t prefill_reach(const PrefillProblem& p, int64_t query, int64_t block) {
    int64_t end = p.keys;
    if (p.causal && query + p.keys - p.queries + 1 < end) end = query + p.keys - p.queries + 1;
    const int64_t left = end - block * kPrefillBlock;
    return left >= kPrefillBlock ? ~uint64_t{0} : left <= 0 ? 0 : (uint64_t{1} << left) - 1;
}

}  // namespace sparsecore::cpu
