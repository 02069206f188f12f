// What a warp does with the scores of a strip, 16 queries x 64 keys in the layout of tensor-core products: lane has rows lane / 4
// and + 8, and of each the columns 8j + lane % 4 * 2 (+ 1), s[j][0], s[j][1] for the upper row and s[j][2], s[j][3] for the lower.
#pragma once

#include <cmath>

#include "cuda/attention/head_units.h"
#include "cuda/attention/prefill/place.h"
#include "cuda/ptx/arithmetic.h"
#include "cuda/ptx/warp.h"

namespace sparsecore::cuda {

constexpr int kStripTiles = kStripKeys / 8;

using StripScores = float[kStripTiles][4];

// The two queries of a thread.
struct StripRows {
    int limit[2];      // keys below it may be seen
    float largest[2];  // product with a key so far
    float total[2];    // of exp2(slope * (product - largest)): this thread's part, the whole behind settle_rows
    float unit[2];     // what a weight is worth in the scores of tokens
    std::uint32_t counted, seen;  // bit 0: the upper row; whether it counts in the scores, and has seen a key
};

SC_DEVICE int lane_of_warp() { return static_cast<int>(thread_x() % kWarpSize); }

SC_DEVICE StripRows start_rows(const PrefillArgs& a, const HeadPlace& at, int first_query) {
    StripRows rows{};
SC_UNROLL
    for (int lower = 0; lower < 2; ++lower) {
        const int query = first_query + lower * 8 + lane_of_warp() / 4;
        rows.limit[lower] = key_limit(a, query);
        rows.largest[lower] = -INFINITY;
        rows.counted |= static_cast<std::uint32_t>(is_counted(a, at.batch, query)) << lower;
    }
    return rows;
}

// Bit i: key first + i has a mask that is not 0.
SC_DEVICE std::uint64_t mask_word(const PrefillArgs& a, const std::uint8_t* mask, int first) {
    const int low = first + lane_of_warp(), high = low + kWarpSize;
    const bool sees_low = low < a.keys && mask[low * a.mask_key_stride] != 0;
    const bool sees_high = high < a.keys && mask[high * a.mask_key_stride] != 0;
    return ballot(sees_low) | static_cast<std::uint64_t>(ballot(sees_high)) << 32;
}

// Bit i: the query sees key first + i.
SC_DEVICE void see_keys(const PrefillArgs& a, const HeadPlace& at, const StripRows& rows, int first_query, int first,
                        std::uint64_t (&seen)[2]) {
SC_UNROLL
    for (int lower = 0; lower < 2; ++lower) {
        const int left = rows.limit[lower] - first;
        seen[lower] = left >= kStripKeys ? ~std::uint64_t{0} : left > 0 ? (std::uint64_t{1} << left) - 1 : 0;
    }
    if (a.mask == nullptr) return;
    if (a.mask_query_stride == 0) {
        const std::uint64_t word = mask_word(a, mask_of(a, at, 0), first);
        seen[0] &= word;
        seen[1] &= word;
        return;
    }
SC_UNROLL
    for (int lower = 0; lower < 2; ++lower) {
        for (int row = 0; row < 8; ++row) {
            const int query = first_query + lower * 8 + row;
            const std::uint64_t word = mask_word(a, mask_of(a, at, query < a.queries ? query : a.queries - 1), first);
            if (row == lane_of_warp() / 4) seen[lower] &= word;
        }
    }
}

// Notes that the queries have seen keys, and in memory which values any counted one multiplies.
SC_DEVICE void note_seen(const PrefillArgs& a, const HeadPlace& at, StripRows& rows, int first, const std::uint64_t (&seen)[2]) {
    rows.seen |= (seen[0] != 0 ? 1u : 0u) | (seen[1] != 0 ? 2u : 0u);
    if (a.used == nullptr) return;
    std::uint64_t word = ((rows.counted & 1) != 0 ? seen[0] : 0) | ((rows.counted & 2) != 0 ? seen[1] : 0);
SC_UNROLL
    for (int lanes = 4; lanes < kWarpSize; lanes *= 2) word |= shuffle_xor(word, lanes);
    std::uint8_t* used = a.used + static_cast<std::int64_t>(at.index) * a.keys + first;
    const int lane = lane_of_warp();
    if ((word >> lane & 1) != 0) used[lane] = 1;
    if ((word >> (lane + kWarpSize) & 1) != 0) used[lane + kWarpSize] = 1;
}

// The scores of keys that are not seen become -infinity.
SC_DEVICE void hide_unseen(StripScores& s, const std::uint64_t (&seen)[2]) {
    if (ballot((seen[0] & seen[1]) == ~std::uint64_t{0}) == kFullWarp) return;
SC_UNROLL
    for (int lower = 0; lower < 2; ++lower) {
        const std::uint64_t word = seen[lower] >> (lane_of_warp() % 4 * 2);
SC_UNROLL
        for (int j = 0; j < kStripTiles; ++j) {
SC_UNROLL
            for (int right = 0; right < 2; ++right) {
                if ((word >> (8 * j + right) & 1) == 0) s[j][lower * 2 + right] = -INFINITY;
            }
        }
    }
}

// slope * largest, what weights are relative to; while no key was seen 0, so that -infinity - -infinity does not occur. Rounded, so
// that the bases of a largest product that stays are equal.
SC_DEVICE float exponent_base(float largest, float slope) {
    return largest == -INFINITY ? 0.0f : multiply_rounded(largest, slope);
}

// Takes the strip into the largest products; `shrink` is what sums of earlier weights are multiplied by, exactly 1 where the largest
// product stays.
SC_DEVICE void raise_largest(StripRows& rows, const StripScores& s, float slope, float (&shrink)[2]) {
SC_UNROLL
    for (int lower = 0; lower < 2; ++lower) {
        const float before = rows.largest[lower];
        float largest = before;
SC_UNROLL
        for (int j = 0; j < kStripTiles; ++j) largest = fmaxf(largest, fmaxf(s[j][lower * 2], s[j][lower * 2 + 1]));
        largest = fmaxf(largest, shuffle_xor(largest, 1));
        largest = fmaxf(largest, shuffle_xor(largest, 2));
        rows.largest[lower] = largest;
        shrink[lower] = before == -INFINITY ? 0.0f : exp2_fast(exponent_base(before, slope) - exponent_base(largest, slope));
        rows.total[lower] *= shrink[lower];
    }
}

// Scores become weights exp2(slope * (score - largest)); `sums` are this thread's parts of their sums.
SC_DEVICE void weigh(const StripRows& rows, StripScores& s, float slope, float (&sums)[2]) {
SC_UNROLL
    for (int lower = 0; lower < 2; ++lower) {
        const float base = exponent_base(rows.largest[lower], slope);
        sums[lower] = 0.0f;
SC_UNROLL
        for (int j = 0; j < kStripTiles; ++j) {
SC_UNROLL
            for (int right = 0; right < 2; ++right) {
                float& score = s[j][lower * 2 + right];
                score = exp2_fast(fmaf(score, slope, -base));
                sums[lower] += score;
            }
        }
    }
}

// Adds up the totals of the four lanes of a row. Where keys are seen but no weight is left, all scores are -infinity and
// probabilities NaN. A query whose probabilities are NaN sees no key any more: it counts nothing, and its output is NaN by its total.
SC_DEVICE void settle_rows(StripRows& rows) {
SC_UNROLL
    for (int lower = 0; lower < 2; ++lower) {
        float total = rows.total[lower];
        total += shuffle_xor(total, 1);
        total += shuffle_xor(total, 2);
        const bool seen = (rows.seen >> lower & 1) != 0;
        if (seen && total == 0.0f) total = NAN;
        const bool nan = total != total;
        rows.total[lower] = total;
        rows.unit[lower] = (rows.counted >> lower & 1) != 0 && seen && !nan ? kScoreUnits / total : 0.0f;
        if (nan) rows.limit[lower] = 0;
    }
}

// Of 2 * kHalf sums, the lanes whose number has the bit `lanes` keep the upper half and get that of their partners.
template <int kHalf, int kSums>
SC_DEVICE void exchange_halves(std::int32_t (&sums)[kSums], int lanes) {
    const bool upper = (lane_of_warp() & lanes) != 0;
SC_UNROLL
    for (int i = 0; i < kHalf; ++i) {
        const std::int32_t given = upper ? sums[i] : sums[i + kHalf], kept = upper ? sums[i + kHalf] : sums[i];
        sums[i] = kept + shuffle_xor(given, lanes);
    }
}

// Adds the probabilities of a strip to the scores of its keys in shared memory, each rounded to an integer, half to even: added to
// 1.5 * 2^23 it stands in the low bits. Integers wrap, so the constant may be taken off afterwards.
SC_DEVICE void add_token_scores(const StripRows& rows, const StripScores& weights, std::int32_t* tokens) {
    constexpr float kShift = 12582912.0f;
    constexpr std::uint32_t kTwoShifts = 2 * 0x4b400000u;
    constexpr int kColumns = 8;  // of a thread at a time: four tiles
    const int lane = lane_of_warp(), own = lane / 16 * 4 + lane / 8 % 2 * 2 + lane / 4 % 2;
SC_UNROLL
    for (int tile = 0; tile < kStripTiles; tile += kColumns / 2) {
        std::int32_t sums[kColumns];
SC_UNROLL
        for (int i = 0; i < kColumns; ++i) {
            const float upper = fmaf(weights[tile + i / 2][i % 2], rows.unit[0], kShift);
            const float lower = fmaf(weights[tile + i / 2][2 + i % 2], rows.unit[1], kShift);
            sums[i] = static_cast<std::int32_t>(float_bits(upper) + float_bits(lower) - kTwoShifts);
        }
        exchange_halves<4>(sums, 16);
        exchange_halves<2>(sums, 8);
        exchange_halves<1>(sums, 4);
        atomic_add(&tokens[(tile + own / 2) * 8 + lane % 4 * 2 + own % 2], sums[0]);
    }
}

// Weights as fragments A of the products with values: one for every 16 keys.
template <class T>
SC_DEVICE void pack_weights(const StripScores& weights, std::uint32_t (&fragments)[kStripKeys / 16][4]) {
SC_UNROLL
    for (int i = 0; i < kStripKeys / 16 * 4; ++i) {
        const float(&tile)[4] = weights[i / 4 * 2 + i % 4 / 2];
        fragments[i / 4][i % 4] = pack_pair<T>(tile[i % 2 * 2], tile[i % 2 * 2 + 1]);
    }
}

}  // namespace sparsecore::cuda
