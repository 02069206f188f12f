// The work on one key head of one sequence, cut into phases so that threads may share it: `products` takes any range of
// rows, `settle` and `choose` one query, `multiply` one chunk of rows. Chunks do not depend on the number of threads, and
// their sums are added in order.
#pragma once

#include "core/buffer.h"
#include "cpu/attention/decode/problem.h"

namespace sparsecore::cpu {

constexpr int64_t kDecodeChunk = 1024;

class DecodeItem {
public:
    // Queries of the heads that are not pruned.
    DecodeItem(const DecodeProblem& problem, const DecodeKernels& kernels, int64_t batch, int64_t kv_head,
               const DecodeRows& rows, core::AlignedBuffer& memory);

    int64_t rows() const { return rows_.count; }
    int64_t queries() const { return queries_; }
    int64_t chunks() const { return (rows_.count + kDecodeChunk - 1) / kDecodeChunk; }
    bool needs_low() const;

    // Stored sums of rows begin ... end - 1; `low` adds the low plane for the queries that need it.
    void products(int64_t begin, int64_t end, bool low);
    // Probabilities of a query, and whether it needs the low bits.
    void settle(int64_t query);
    // Those of a query that did, with them.
    void settle_low(int64_t query);
    // Token scores, and the V rows that count; the choice of a group is made with its last query.
    void choose(int64_t query);
    void multiply(int64_t chunk);
    void finish();

    // All of it on the calling thread.
    void run();

private:
    struct Query {
        DecodeQuery own;
        int64_t head = 0;
        float *products = nullptr, *p = nullptr, *chosen = nullptr;  // chosen: probabilities of the listed rows
        int32_t* list = nullptr;                                     // slots; null: all rows
        int64_t listed = 0;
        DecodeSums sums;
        bool low = false;
        float inverse() const { return 1.0f / sums.sum; }
    };

    void lay_out(core::AlignedBuffer& memory);
    void load_query(Query& query);
    DecodeScoring scoring(const Query& query, bool low) const;
    void choose_own(Query& query);
    void choose_for_group();
    int64_t value_count() const;
    // The `count` largest of p as places and values.
    void collect(const float* p, int64_t count, int32_t* places, float* values);
    void to_slots(int32_t* places, int64_t count) const;
    void write_token_scores(const Query& query) const;
    void write(const Query* query, int64_t head, const float* sums) const;
    int64_t head_score(int64_t head) const;  // of what was written

    const DecodeProblem& p_;
    const DecodeKernels& kernels_;
    const int64_t batch_, kv_head_;
    const DecodeRows rows_;
    int64_t queries_ = 0;
    Query* query_ = nullptr;  // [group]
    float* group_p_ = nullptr;
    float* sums_ = nullptr;   // [chunks][queries][padded value width]
};

}  // namespace sparsecore::cpu
