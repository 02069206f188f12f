// The way out of the tensor-core kernels: output, log-sum-exp, the score of the head.
#pragma once

#include "cuda/attention/prefill/strip.h"

namespace sparsecore::cuda {

SC_DEVICE float log_sum(float largest, float total, float scale) { return total == 0.0f ? -INFINITY : largest * scale + logf(total); }

SC_DEVICE void add_to_head(const PrefillArgs& a, const HeadPlace& at, std::uint64_t units) {
SC_UNROLL
    for (int lanes = 1; lanes < kWarpSize; lanes *= 2) units += shuffle_xor(units, lanes);
    if (lane_of_warp() == 0 && units != 0) atomic_add(&a.head_scores[at.index], units);
}

// One row of a thread: columns 8j + lane % 4 * 2 (+ 1), of which sums[j][lower * 2 (+ 1)] are the sums. Returns its units.
template <class T, int kTiles>
SC_DEVICE std::uint64_t write_row(const PrefillArgs& a, std::int64_t place, float factor, const float (&sums)[kTiles][4], int lower) {
    auto* out = static_cast<std::uint16_t*>(a.out) + place * a.value_width;
    std::uint64_t units = 0;
SC_UNROLL
    for (int j = 0; j < kTiles; ++j) {
        const int column = j * 8 + lane_of_warp() % 4 * 2;
        if (column >= a.value_width) continue;
        const std::uint32_t pair = pack_pair<T>(sums[j][lower * 2] * factor, sums[j][lower * 2 + 1] * factor);
        const T low{static_cast<std::uint16_t>(pair)}, high{static_cast<std::uint16_t>(pair >> 16)};
        if (a.value_width % 2 == 0) {
            *reinterpret_cast<std::uint32_t*>(out + column) = pair;
        } else {
            out[column] = low.bits;
            if (column + 1 < a.value_width) out[column + 1] = high.bits;
        }
        units += head_units(to_float(low)) + (column + 1 < a.value_width ? head_units(to_float(high)) : 0u);
    }
    return units;
}

// Writes the 16 queries of a warp. Finite weights and values have finite sums: a query with others is left to the plain kernel,
// which multiplies no infinity by zero.
template <class T, int kTiles>
SC_DEVICE void write_rows(const PrefillArgs& a, const HeadPlace& at, int first_query, const StripRows& rows,
                          const float (&sums)[kTiles][4]) {
    const int lane = lane_of_warp();
    std::uint64_t units = 0;
SC_UNROLL
    for (int lower = 0; lower < 2; ++lower) {
        const int query = first_query + lower * 8 + lane / 4;
        float zero = 0.0f;
SC_UNROLL
        for (int j = 0; j < kTiles; ++j) zero += sums[j][lower * 2] * 0.0f + sums[j][lower * 2 + 1] * 0.0f;
        zero += shuffle_xor(zero, 1);
        zero += shuffle_xor(zero, 2);
        if (query >= a.queries) continue;
        const float total = rows.total[lower];
        const std::int64_t place = static_cast<std::int64_t>(at.index) * a.queries + query;
        if (lane % 4 == 0) a.lse[place] = log_sum(rows.largest[lower], total, a.scale);
        if (zero != 0.0f && total == total) {
            if (lane % 4 == 0) a.odd_queries[atomic_add(reinterpret_cast<std::uint64_t*>(a.odd_count), std::uint64_t{1})] = place;
            continue;
        }
        const std::uint64_t own = write_row<T>(a, place, total == 0.0f ? 0.0f : 1.0f / total, sums, lower);
        if ((rows.counted >> lower & 1) != 0) units += own;
    }
    if (a.head_scores != nullptr) add_to_head(a, at, units);
}

}  // namespace sparsecore::cuda
