// Sums of exp2(score): of a lane, over the lanes of a warp, over the splits of a sequence. Every kernel that needs the
// whole adds the splits by itself, in one order, so that no launch waits for a block that merges.
#pragma once

#include <cmath>

#include "cuda/attention/decode/places.h"

namespace sparsecore::cuda::decode {

constexpr float kNothing = -INFINITY;  // the largest of no scores

SC_DEVICE void add_score(Sums& sums, float score) {
    if (score > sums.largest) {
        // score - score: NaN for an infinite score, as its probability is.
        sums.sum = fmaf(sums.sum, exp2f(sums.largest - score), 1.0f) + (score - score);
        sums.largest = score;
    } else if (score != kNothing) {
        sums.sum += exp2f(score - sums.largest);
    }
}

SC_DEVICE Sums join(const Sums& a, const Sums& b) {
    const bool swap = b.largest > a.largest;
    const float more = swap ? b.largest : a.largest, less = swap ? a.largest : b.largest;
    const float more_sum = swap ? b.sum : a.sum, less_sum = swap ? a.sum : b.sum;
    return {more, less_sum == 0.0f ? more_sum : fmaf(less_sum, exp2f(less - more), more_sum)};
}

// Over lanes whose numbers differ in the bits kFirst ... kWarpSize / 2.
template <int kFirst>
SC_DEVICE Sums join_lanes(Sums sums) {
SC_UNROLL
    for (int step = kFirst; step < kWarpSize; step *= 2) {
        sums = join(sums, Sums{shuffle_xor(sums.largest, step), shuffle_xor(sums.sum, step)});
    }
    return sums;
}

// By a whole warp; every lane gets the result.
SC_DEVICE Sums join_splits(const Args& a, const Sums* part, std::int64_t batch, std::int64_t head, int used) {
    Sums own{kNothing, 0.0f};
    for (int split = lane_index(); split < used; split += kWarpSize) {
        own = join(own, part[(batch * a.splits + split) * a.heads + head]);
    }
    return join_lanes<1>(own);
}

// The softmax of one query: p = exp2(score - largest) * inverse. Not alive: its head is pruned or it sees no row.
struct Settled {
    float largest = 0.0f, sum = 0.0f, inverse = 0.0f;
    bool alive = false, low = false;

    SC_DEVICE float probability(float score) const { return exp2f(score - largest); }  // not normalised
};

SC_DEVICE bool needs_low(const Args& a, const Sums& first) {
    return a.keys.planes != 0 && 1.0f / first.sum < a.threshold;
}

// By a whole warp.
SC_DEVICE Settled settle(const Args& a, std::int64_t batch, std::int64_t head, int count) {
    Settled settled;
    settled.alive = count > 0 && kept(a, batch, head);
    if (!settled.alive) return settled;
    const int used = used_splits(a, count);
    Sums sums = join_splits(a, a.first, batch, head, used);
    settled.low = needs_low(a, sums);
    if (settled.low) sums = join_splits(a, a.again, batch, head, used);
    settled.largest = sums.largest;
    settled.sum = sums.sum;
    settled.inverse = 1.0f / sums.sum;
    return settled;
}

}  // namespace sparsecore::cuda::decode
