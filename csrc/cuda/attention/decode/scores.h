// Scores of stored rows, the first kernels of decode attention: q k^T over the high bits of keys, or over dense keys, and
// the sums of their exponentials; then the low bits, for the queries that need them.
//
// The floor is bytes over bandwidth, and rows are read once for up to 8 query heads of a key head. With D = 128, 4 high
// bits and 4 query heads a key is 64 + 4 bytes and leaves 16 of scores: an SM of an H200 gets 19 bytes a clock (4.3 TB/s,
// 132 SMs, 1.7 GHz), one key in 4.4 clocks. A query is two bytes, so there are 1024 byte products a key: as fused
// multiply-adds of fp32 512 in 4 clocks and 128 conversions behind 16 a clock in 8; as dp4a 256 in 4 clocks at 64 a clock;
// as mma m16n8k32 4 for 16 keys, about 0.4 clocks a key at 60 % of the peak of 4096 a clock. So it is mma: with the
// 24 instructions a lane that take nibbles apart and 2 reads of 16 bytes of the query for 16 keys (0.5 clocks of shared
// memory), the exponentials (4 in 0.25 clocks) and addresses, a key takes about 2 clocks of issue.
// What is left is having bytes in flight, 26 KB an SM for 0.8 us: 24 warps ask for 1 KB (16 rows of 64 bytes) each, and for
// the next ones ahead into the second-level cache, which costs no registers.
//
// The low plane adds (low sum - 8 q sum) to the stored score, where the first pass counted 8, the middle, for each low part.
// Blocks whose queries all are sure of their result leave at once: no query is decided upon by the host.
#pragma once

#include <type_traits>

#include "cuda/attention/decode/products.h"
#include "cuda/attention/decode/sums.h"

namespace sparsecore::cuda::decode {

enum class Keys { Nibbles, Bytes, BytesAndNibbles, Low, F16, BF16, F32 };

template <Keys kKeys>
using Dense = std::conditional_t<kKeys == Keys::F32, F32, std::conditional_t<kKeys == Keys::F16, F16, BF16>>;
template <Keys kKeys>
constexpr bool kDense = kKeys == Keys::F16 || kKeys == Keys::BF16 || kKeys == Keys::F32;

struct IntegerOperands {
    IntegerColumns whole, halved;
};
template <Keys kKeys>
struct ScoresShared {
    std::conditional_t<kDense<kKeys>, Columns<kQueries, kWidth * sizeof(Dense<kKeys>)>, IntegerOperands> operand;
    QueryScale scale[kQueries];
    bool used[kQueries];
    Sums sums[kWarps][kQueries];
};

// Warp q decides whether query q takes part, and brings it.
template <Keys kKeys>
SC_DEVICE void find_used(const Args& a, const Item& item, int rows, ScoresShared<kKeys>& shared) {
    const int query = warp_index();
    bool used = query < item.queries && kept(a, item.batch, item.head + query);
    if (kKeys == Keys::Low && used) {
        used = needs_low(a, join_splits(a, a.first, item.batch, item.head + query, used_splits(a, rows)));
    }
    if (lane_index() == 0) shared.used[query] = used;
}

template <Keys kKeys>
SC_DEVICE void load_query(const Args& a, const Item& item, ScoresShared<kKeys>& shared) {
    const int query = warp_index();
    // The columns of a query that does not take part are multiplied, and their products not looked at.
    const std::int64_t head = item.head + (query < item.queries ? query : 0);
    QueryScale scale{a.scale * kLog2E, 0};
    if constexpr (kDense<kKeys>) {
        load_dense<Dense<kKeys>>(a, item.batch, head, query, shared.operand);
    } else {
        constexpr bool kWhole = kKeys == Keys::Bytes || kKeys == Keys::BytesAndNibbles, kHalved = kKeys != Keys::Bytes;
        scale = load_integers(a, item.batch, head, query, kWhole ? &shared.operand.whole : nullptr,
                              kHalved ? &shared.operand.halved : nullptr);
    }
    if (lane_index() == 0) shared.scale[query] = scale;
}

// Products of 16 rows in integers of the keys; the first pass counts 8 for the low bits, the low one takes it away again.
template <Keys kKeys, int kTiles>
SC_DEVICE void multiply_rows(const Args& a, const Item& item, const Place (&place)[2], const bool (&there)[2],
                             const std::int32_t (&query_sum)[kTiles], const ScoresShared<kKeys>& shared,
                             float (&product)[kTiles][2]) {
    const auto rows = [&](const Part& part) {
        return RowPair{{there[0] ? row_of(part, place[0], item.kv_head) : nullptr,
                        there[1] ? row_of(part, place[1], item.kv_head) : nullptr}};
    };
    if constexpr (kDense<kKeys>) {
        multiply_dense(Dense<kKeys>{}, a.dense_keys, rows(a.dense_keys), shared.operand, product);
    } else {
        constexpr bool kNibbles = kKeys == Keys::Nibbles || kKeys == Keys::Low;
        const Part& plane = a.keys.plane[kKeys == Keys::Low ? a.keys.planes - 1 : 0];
        const int offset = kKeys == Keys::Low ? 8 : a.keys.first_offset;
        std::int32_t sum[kTiles][2];
        multiply_plane<kNibbles>(plane, rows(plane), kNibbles ? shared.operand.halved : shared.operand.whole, sum);
SC_UNROLL
        for (int i = 0; i < kTiles * 2; ++i) {
            product[i / 2][i % 2] = static_cast<float>(sum[i / 2][i % 2] - offset * query_sum[i / 2]);
        }
        if constexpr (kKeys == Keys::BytesAndNibbles) {
            multiply_plane<true>(a.keys.plane[1], rows(a.keys.plane[1]), shared.operand.halved, sum);
            const auto weight = static_cast<float>(1 << a.keys.rest_bits);
SC_UNROLL
            for (int i = 0; i < kTiles * 2; ++i) {
                float& whole = product[i / 2][i % 2];
                whole = fmaf(whole, weight, static_cast<float>(sum[i / 2][i % 2]));
            }
        }
        if constexpr (kKeys != Keys::Low) {
SC_UNROLL
            for (int i = 0; i < kTiles * 2; ++i) {
                float& whole = product[i / 2][i % 2];
                whole = fmaf(whole, 16.0f, static_cast<float>(8 * query_sum[i / 2]));
            }
        }
    }
}

// Asks for rows that are read a step later; four lanes share one.
template <Keys kKeys>
SC_DEVICE void prefetch_keys(const Args& a, const Item& item, const Rows& rows, int index) {
    const int own = lane_index() % kLanesOfRow;
    const Place place = place_of(a, item.batch, rows.slot(index));
    if (kDense<kKeys>) return prefetch_row(row_of(a.dense_keys, place, item.kv_head), a.dense_keys.bytes, own, kLanesOfRow);
    constexpr bool kLow = kKeys == Keys::Low;
    const int planes = kLow ? a.keys.planes : a.keys.planes - 1;
    for (int i = kLow ? planes - 1 : 0; i < planes; ++i) {
        const Part& plane = a.keys.plane[i];
        prefetch_row(row_of(plane, place, item.kv_head), plane.bytes, own, kLanesOfRow);
    }
}

// The sums of all warps, in order.
template <int kTiles>
SC_DEVICE void write_sums(const Args& a, const Item& item, Sums (&own)[kTiles], bool (&used)[kQueries], Sums* to,
                          Sums (&sums)[kWarps][kQueries]) {
SC_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
        const Sums all = join_lanes<kLanesOfRow>(own[tile]);
        if (lane_index() < kTileQueries) sums[warp_index()][tile * kTileQueries + lane_index()] = all;
    }
    block_barrier();
    const int query = static_cast<int>(thread_x());
    if (query >= item.queries || !used[query]) return;
    Sums all = sums[0][query];
    for (int warp = 1; warp < kWarps; ++warp) all = join(all, sums[warp][query]);
    to[(item.batch * a.splits + item.split) * a.heads + item.head + query] = all;
}

// Grid: batch * kv_heads * chunks * splits. kTiles * 4 >= the queries of a chunk.
template <Keys kKeys, int kTiles>
SC_GLOBAL void SC_BOUNDS(kThreads, kTiles == 1 && kKeys != Keys::F32 ? 3 : 2) scores_kernel(Args a) {
    auto& shared = shared_memory<ScoresShared<kKeys>>();
    const Item item = item_of(a);
    const Rows rows = rows_of(a, item.batch);
    const int size = rows_of_a_split(a, rows.count);
    if (item.split >= used_splits(a, rows.count)) return;
    find_used(a, item, rows.count, shared);
    block_barrier();
    bool any = false;
    for (int q = 0; q < kQueries; ++q) any = any || shared.used[q];
    if (!any) return;
    load_query(a, item, shared);
    block_barrier();

    const int own = lane_index() % kLanesOfRow;
    float factor[kTiles];
    std::int32_t query_sum[kTiles];
    Sums sums[kTiles];
SC_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
        const QueryScale scale = shared.scale[tile * kTileQueries + own];
        factor[tile] = scale.factor;
        query_sum[tile] = scale.sum;
        sums[tile] = {kNothing, 0.0f};
    }
    const int begin = item.split * size, end = rows.count - begin < size ? rows.count : begin + size;
    for (int first = begin + warp_index() * kTileKeys; first < end; first += kSplitUnit) {
        Place place[2] = {};
        bool there[2];
        int index[2];
        float key_scale[2] = {1.0f, 1.0f};
SC_UNROLL
        for (int r = 0; r < 2; ++r) {
            index[r] = first + lane_index() / kLanesOfRow + r * 8;
            there[r] = index[r] < end;
            if (index[r] + kSplitUnit < end) prefetch_keys<kKeys>(a, item, rows, index[r] + kSplitUnit);
            if (!there[r]) continue;
            place[r] = place_of(a, item.batch, rows.slot(index[r]));
            if (!kDense<kKeys>) key_scale[r] = *reinterpret_cast<const float*>(row_of(a.key_scales, place[r], item.kv_head));
        }
        float product[kTiles][2];
        multiply_rows<kKeys, kTiles>(a, item, place, there, query_sum, shared, product);
SC_UNROLL
        for (int i = 0; i < kTiles * 2; ++i) {
            const int tile = i / 2, r = i % 2, query = tile * kTileQueries + own;
            if (!there[r] || !shared.used[query]) continue;
            float& stored = a.scores[(item.batch * a.heads + item.head + query) * a.most_rows + index[r]];
            const float by_row = factor[tile] * key_scale[r];
            stored = kKeys == Keys::Low ? fmaf(product[tile][r], by_row, stored) : product[tile][r] * by_row;
            add_score(sums[tile], stored);
        }
    }
    write_sums(a, item, sums, shared.used, kKeys == Keys::Low ? a.again : a.first, shared.sums);
}

}  // namespace sparsecore::cuda::decode
