// V rows of a split, weighted and summed up, and the token scores; then the sums of all splits.
//
// A block takes 512 rows at a time. Every thread finds the probabilities of two rows for all queries, and asks for the rows
// that some query wants; these are listed in order, and the warps read them alone: 8 elements a lane, several rows of a warp
// at once. So all rows of a tile, 16 KB at 25 % of 128 bytes, are in flight together, for 2 blocks an SM.
// Floor: bytes, as for the scores. The top 25 % of int8 rows of 128 elements are 33 bytes a key besides 16 of scores; 4 query
// heads are 128 fused multiply-adds a key on average, 1 clock of an SM, and 32 conversions of bytes by 3 instructions take 0.75.
// A row that a query does not want contributes nothing to it, whatever it holds: each row has a mask of queries.
#pragma once

#include "cuda/attention/decode/bytes.h"
#include "cuda/attention/decode/choose.h"

namespace sparsecore::cuda::decode {

constexpr int kLaneValues = 8;
constexpr int kTileRounds = 2, kTileRows = kTileRounds * kThreads;

struct ValuesShared {
    Settled query[kQueries];
    Cut cut[kQueries];
    float weight[kQueries][kTileRows];
    std::uint32_t wanted[kTileRows];     // bit q: query q multiplies the row
    std::int64_t row[kTileRows];         // where it begins, in bytes from the first one
    int listed[kTileRows], counts[kTileRounds][kWarps];
    float sums[kWarps][kWidth];
};

template <class T>
struct alignas(sizeof(T) * kLaneValues > 16 ? 16 : sizeof(T) * kLaneValues) Values {
    T element[kLaneValues];
};

template <class T>
SC_DEVICE Values<T> load_values(const std::uint8_t* row, int first, const Part& part) {
    const T* from = reinterpret_cast<const T*>(row) + first;
    const int left = part.bytes / static_cast<int>(sizeof(T)) - first;
    if (part.aligned && left >= kLaneValues) return *reinterpret_cast<const Values<T>*>(from);
    Values<T> values{};
SC_UNROLL
    for (int i = 0; i < kLaneValues; ++i) {
        if (i < left) values.element[i] = from[i];
    }
    return values;
}

// Probabilities of a row, to `place` of the tile, and which queries want it.
SC_DEVICE std::uint32_t weigh_row(const Args& a, const Item& item, const Rows& rows, int row, int place, ValuesShared& shared) {
    const float share = a.shares == nullptr ? 0.0f : a.shares[(item.batch * a.kv_heads + item.kv_head) * a.most_rows + row];
    std::uint32_t wanted = 0;
    for (int q = 0; q < item.queries; ++q) {
        const Settled& query = shared.query[q];
        const std::int64_t head = item.batch * a.heads + item.head + q;
        float p = 0.0f;
        if (query.alive) {
            p = query.probability(a.scores[head * a.most_rows + row]);
            const bool valid = query.inverse == query.inverse;
            const std::uint32_t bits = a.shares == nullptr ? rank_bits(p, valid) : float_bits(share);
            if (a.cuts == nullptr || counts(shared.cut[q], bits, row)) wanted |= 1u << q;
        }
        shared.weight[q][place] = p;
        if (a.token_scores.data != nullptr) {
            const float units = rintf(p * query.inverse * 1048576.0f);
            auto* to = static_cast<std::int64_t*>(a.token_scores.data) + item.batch * a.token_scores.batch_stride +
                       (item.head + q) * a.token_scores.head_stride;
            to[rows.list == nullptr ? rows.first + row : row] = units == units ? static_cast<std::int64_t>(units) : 0;
        }
    }
    return wanted;
}

// Token scores of what a sequence does not see are 0; the splits share them.
SC_DEVICE void clear_unseen(const Args& a, const Item& item, const Rows& rows) {
    if (a.token_scores.data == nullptr) return;
    const std::int64_t first = rows.list == nullptr ? rows.first : 0;
    for (std::int64_t i = item.split * kThreads + thread_x(); i < a.most_rows - rows.count; i += a.splits * kThreads) {
        for (int q = 0; q < item.queries; ++q) {
            auto* to = static_cast<std::int64_t*>(a.token_scores.data) + item.batch * a.token_scores.batch_stride +
                       (item.head + q) * a.token_scores.head_stride;
            to[i < first ? i : i + rows.count] = 0;
        }
    }
}

// Finds where a wanted row is and asks for it.
template <class T>
SC_DEVICE void fetch_row(const Args& a, const Item& item, const Rows& rows, int row, int place, ValuesShared& shared) {
    const Place at = place_of(a, item.batch, rows.slot(row));
    const std::uint8_t* begin = row_of(a.values, at, item.kv_head);
    shared.row[place] = begin - a.values.data;
    prefetch_row(begin, a.values.bytes, 0, 1);
    if (sizeof(T) > 1) return;
    const float scale = *reinterpret_cast<const float*>(row_of(a.value_scales, at, item.kv_head));
    for (int q = 0; q < item.queries; ++q) shared.weight[q][place] *= scale;
}

// Lists the wanted rows of the tile at `first`, in order, and returns how many.
template <class T>
SC_DEVICE int list_rows(const Args& a, const Item& item, const Rows& rows, int first, int end, ValuesShared& shared) {
    const int warp = warp_index();
    std::uint32_t votes[kTileRounds];
SC_UNROLL
    for (int round = 0; round < kTileRounds; ++round) {
        const int place = round * kThreads + static_cast<int>(thread_x()), row = first + place;
        const std::uint32_t wanted = row < end ? weigh_row(a, item, rows, row, place, shared) : 0u;
        if (wanted != 0) fetch_row<T>(a, item, rows, row, place, shared);
        shared.wanted[place] = wanted;
        votes[round] = ballot(wanted != 0);
        if (lane_index() == 0) shared.counts[round][warp] = count_bits(votes[round]);
    }
    block_barrier();
    int count = 0;
SC_UNROLL
    for (int round = 0; round < kTileRounds; ++round) {
        int before = count + count_bits(votes[round] & ((1u << lane_index()) - 1));
        for (int w = 0; w < kWarps; ++w) {
            if (w < warp) before += shared.counts[round][w];
            count += shared.counts[round][w];
        }
        if ((votes[round] >> lane_index() & 1u) != 0) shared.listed[before] = round * kThreads + static_cast<int>(thread_x());
    }
    block_barrier();
    return count;
}

template <class T, int kCount>
SC_DEVICE void add_rows(const Args& a, int count, int lanes, const ValuesShared& shared, float (&sums)[kCount][kLaneValues]) {
    constexpr int kStepsAhead = kCount > 4 ? 2 : 4;  // what registers are left for
    const int rows_of_warp = kWarpSize / lanes, step = kWarps * rows_of_warp;
    const int first_value = lane_index() % lanes * kLaneValues;
    for (int first = warp_index() * rows_of_warp + lane_index() / lanes; first < count; first += kStepsAhead * step) {
        Values<T> values[kStepsAhead];
        int key[kStepsAhead];
SC_UNROLL
        for (int s = 0; s < kStepsAhead; ++s) {
            key[s] = first + s * step < count ? shared.listed[first + s * step] : -1;
            if (key[s] >= 0) values[s] = load_values<T>(a.values.data + shared.row[key[s]], first_value, a.values);
        }
SC_UNROLL
        for (int s = 0; s < kStepsAhead; ++s) {
            if (key[s] < 0) continue;
            const std::uint32_t wanted = shared.wanted[key[s]];
            float v[kLaneValues];
SC_UNROLL
            for (int i = 0; i < kLaneValues; ++i) v[i] = to_float(values[s].element[i]);
SC_UNROLL
            for (int q = 0; q < kCount; ++q) {
                if ((wanted >> q & 1u) == 0) continue;
                const float weight = shared.weight[q][key[s]];
SC_UNROLL
                for (int i = 0; i < kLaneValues; ++i) sums[q][i] = fmaf(weight, v[i], sums[q][i]);
            }
        }
    }
}

// Sums of the lanes and warps that had other rows, in a fixed order.
template <int kCount>
SC_DEVICE void write_values(const Args& a, const Item& item, int lanes, float (&sums)[kCount][kLaneValues], ValuesShared& shared) {
    const int thread = static_cast<int>(thread_x());
SC_UNROLL
    for (int q = 0; q < kCount; ++q) {
SC_UNROLL
        for (int i = 0; i < kLaneValues; ++i) {
            for (int step = lanes; step < kWarpSize; step *= 2) sums[q][i] += shuffle_xor(sums[q][i], step);
            if (lane_index() < lanes) shared.sums[warp_index()][lane_index() * kLaneValues + i] = sums[q][i];
        }
        block_barrier();
        if (q < item.queries && thread < a.value_width) {
            float sum = 0.0f;
            for (int warp = 0; warp < kWarps; ++warp) sum += shared.sums[warp][thread];
            a.sums[((item.batch * a.splits + item.split) * a.heads + item.head + q) * a.value_width + thread] = sum;
        }
        block_barrier();
    }
}

// Grid: batch * kv_heads * chunks * splits. T: of the stored values; kCount: at least the queries of a chunk.
template <class T, int kCount>
SC_GLOBAL void SC_BOUNDS(kThreads, 2) values_kernel(Args a) {
    auto& shared = shared_memory<ValuesShared>();
    const Item item = item_of(a);
    const Rows rows = rows_of(a, item.batch);
    clear_unseen(a, item, rows);
    if (item.split >= used_splits(a, rows.count)) return;
    if (const int q = warp_index(); q < item.queries) {
        const Settled settled = settle(a, item.batch, item.head + q, rows.count);
        if (lane_index() == 0) {
            shared.query[q] = settled;
            if (a.cuts != nullptr && settled.alive) shared.cut[q] = a.cuts[item.batch * a.heads + item.head + q];
        }
    }
    block_barrier();
    int lanes = 1;  // of a row
    while (lanes * kLaneValues < a.value_width) lanes *= 2;
    float sums[kCount][kLaneValues] = {};
    const int size = rows_of_a_split(a, rows.count), begin = item.split * size;
    const int end = rows.count - begin < size ? rows.count : begin + size;
    for (int first = begin; first < end; first += kTileRows) {
        const int count = list_rows<T>(a, item, rows, first, end, shared);
        add_rows<T, kCount>(a, count, lanes, shared, sums);
        block_barrier();
    }
    write_values(a, item, lanes, sums, shared);
}

}  // namespace sparsecore::cuda::decode
