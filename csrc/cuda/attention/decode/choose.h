// Which V rows a query multiplies: those of its largest probabilities, or, for a group that chooses once, of the largest
// sums of probabilities over its queries. One block for each query or group.
//
// Scores were just written: a row of 32768 is 128 KB, and those that 132 SMs work on stay in the second-level cache. Three
// passes of 64 numbers a thread are about 5 us for all rows that are under way; a group sums up its probabilities once,
// and the passes read the sums.
#pragma once

#include "cuda/attention/decode/select.h"
#include "cuda/attention/decode/sums.h"

namespace sparsecore::cuda::decode {

struct ChooseShared {
    SelectShared select;
    Settled query[kGroup];
    float mass[kSelectWarps];
};

// How many of n V rows a query multiplies: reference.scores.value_counts.
SC_DEVICE int value_count(const Args& a, int n) {
    constexpr double kRounding = 1e-9;  // 0.3 * 10 is a little below 3 in binary and shall be 3
    const int share = static_cast<int>(floor(static_cast<double>(n) * a.value_keep + kRounding));
    return share < 1 ? 1 : share > n ? n : share;
}

SC_DEVICE bool counts(const Cut& cut, std::uint32_t bits, int row) {
    return bits > cut.bits || (bits == cut.bits && row < cut.ties_end);
}

// The bits by which a probability is ranked. NaN probabilities are NaN for all rows: all equal.
SC_DEVICE std::uint32_t rank_bits(float p, bool valid) { return valid ? float_bits(p) : 0u; }

// Sum over the threads of the block, in a fixed order.
SC_DEVICE float sum_of_block(float own, float (&by_warp)[kSelectWarps]) {
SC_UNROLL
    for (int step = 1; step < kWarpSize; step *= 2) own += shuffle_xor(own, step);
    if (lane_index() == 0) by_warp[warp_index()] = own;
    block_barrier();
    float sum = 0.0f;
    for (int warp = 0; warp < kSelectWarps; ++warp) sum += by_warp[warp];
    block_barrier();
    return sum;
}

// A row of probabilities sums, or of one query's scores.
template <class Bits>
SC_DEVICE float chosen_mass(const float* scores, const Settled& query, const Bits& bits, const Cut& cut, int n,
                            ChooseShared& shared) {
    float own = 0.0f;
    for (int i = static_cast<int>(thread_x()); i < n; i += kSelectThreads) {
        if (counts(cut, bits(i), i)) own += query.probability(scores[i]);
    }
    return sum_of_block(own, shared.mass) * query.inverse;
}

// Probabilities of all queries of a group, summed up for each row.
SC_DEVICE void sum_shares(const Args& a, const float* scores, int n, const ChooseShared& shared, float* shares) {
    for (int i = static_cast<int>(thread_x()); i < n; i += kSelectThreads) {
        float sum = 0.0f;
        for (int g = 0; g < a.group; ++g) {
            const Settled& query = shared.query[g];
            if (query.alive) sum = fmaf(query.probability(scores[g * a.most_rows + i]), query.inverse, sum);
        }
        shares[i] = sum == sum ? sum : 0.0f;  // see rank_bits
    }
}

// Grid: batch * heads, or batch * kv_heads with group_values. Block: kSelectThreads.
template <bool kGroupChooses>
SC_GLOBAL void SC_BOUNDS(kSelectThreads, 1) choose_kernel(Args a) {
    auto& shared = shared_memory<ChooseShared>();
    const int queries = kGroupChooses ? a.group : 1;
    const std::int64_t heads = a.heads / queries, batch = block_x() / heads, first = block_x() % heads * queries;
    const int n = rows_of(a, batch).count;
    for (int g = warp_index(); g < queries; g += kSelectWarps) {
        const Settled settled = settle(a, batch, first + g, n);
        if (lane_index() == 0) shared.query[g] = settled;
    }
    block_barrier();
    bool any = false;
    for (int g = 0; g < queries; ++g) any = any || shared.query[g].alive;
    if (!any) return;  // nobody asks for the cut of a query that is not alive

    const float* scores = a.scores + (batch * a.heads + first) * a.most_rows;
    float* shares = kGroupChooses ? a.shares + block_x() * a.most_rows : nullptr;
    const Settled& single = shared.query[0];
    const auto bits = [&](int i) {
        if (kGroupChooses) return float_bits(shares[i]);
        return rank_bits(single.probability(scores[i]), single.inverse == single.inverse);
    };
    if (kGroupChooses) {
        sum_shares(a, scores, n, shared, shares);
        block_barrier();
    }
    const Cut all{0, n, n};
    const int k = value_count(a, n);
    Cut cut = k == n ? all : select_largest(bits, n, k, shared.select);
    bool enough = true;
    for (int g = 0; g < queries && a.value_mass > 0.0f && k < n; ++g) {
        const Settled& query = shared.query[g];
        if (query.alive && chosen_mass(scores + g * a.most_rows, query, bits, cut, n, shared) < a.value_mass) enough = false;
    }
    if (!enough) cut = all;
    for (int g = static_cast<int>(thread_x()); g < queries; g += kSelectThreads) a.cuts[batch * a.heads + first + g] = cut;
}

}  // namespace sparsecore::cuda::decode
