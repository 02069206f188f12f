// Sums over the lanes of 16 vectors at once, for 32-bit integers and fp32. Included by files compiled for AVX-512 only.
#pragma once

#include <immintrin.h>

#include "cpu/attention/decode/problem.h"

namespace sparsecore::cpu {

static inline __m512i add_lanes(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
static inline __m512 add_lanes(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
static inline __m512i as_integers(__m512i a) { return a; }
static inline __m512i as_integers(__m512 a) { return _mm512_castps_si512(a); }
static inline void from_integers(__m512i bits, __m512i& a) { a = bits; }
static inline void from_integers(__m512i bits, __m512& a) { a = _mm512_castsi512_ps(bits); }

// Each 128-bit lane of the result holds that lane's sums of v[0], v[1], v[2], v[3].
template <class Vector>
static inline Vector sum_within_lanes(const Vector* v) {
    Vector low[2], high[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
        const __m512i a = as_integers(v[2 * i]), b = as_integers(v[2 * i + 1]);
        Vector first, second;
        from_integers(_mm512_unpacklo_epi32(a, b), first);
        from_integers(_mm512_unpackhi_epi32(a, b), second);
        const __m512i both = as_integers(add_lanes(first, second));
        from_integers(both, low[i]);
        high[i] = low[i];
    }
    from_integers(_mm512_unpacklo_epi64(as_integers(low[0]), as_integers(low[1])), low[0]);
    from_integers(_mm512_unpackhi_epi64(as_integers(high[0]), as_integers(high[1])), high[0]);
    return add_lanes(low[0], high[0]);
}

// a's 128-bit lanes 0 + 1 and 2 + 3, then b's.
template <class Vector>
static inline Vector sum_lane_pairs(Vector a, Vector b) {
    Vector even, odd;
    from_integers(_mm512_shuffle_i32x4(as_integers(a), as_integers(b), 0x88), even);
    from_integers(_mm512_shuffle_i32x4(as_integers(a), as_integers(b), 0xdd), odd);
    return add_lanes(even, odd);
}

// Of four results of sum_within_lanes, the sums of their 16 vectors in order.
template <class Vector>
static inline Vector sum_across_lanes(const Vector (&v)[4]) {
    return sum_lane_pairs(sum_lane_pairs(v[0], v[1]), sum_lane_pairs(v[2], v[3]));
}

constexpr int64_t kRowsAtOnce = 16, kRowsInCache = 64;

// Rows 0 ... 15 of a group: neighbours in memory, or anywhere.
struct NextRows {
    const uint8_t* first;
    int64_t stride;
    [[gnu::always_inline]] const uint8_t* operator[](int64_t i) const { return first + i * stride; }
    [[gnu::always_inline]] NextRows from(int64_t i) const { return {first + i * stride, stride}; }
};
struct ListedRows {
    const uint8_t* const* at;
    [[gnu::always_inline]] const uint8_t* operator[](int64_t i) const { return at[i]; }
    [[gnu::always_inline]] ListedRows from(int64_t i) const { return {at + i}; }
};

// What a core has to ask for ahead of its use to keep the memory busy, into the second-level cache: requests for the
// first level are few at a time (measured on Zen 4: half of the speed for listed rows, 0.7 for neighbours).
constexpr int64_t kAheadBytes = 4096, kAheadRows = 48;
static_assert(kAheadRows + kRowsAtOnce <= kDecodeAhead);

static inline void fetch(const uint8_t* from, int64_t bytes) {
    for (int64_t byte = 0; byte < bytes; byte += 64) _mm_prefetch(from + byte, _MM_HINT_T1);
}

// The rows that follow `count` of a list.
static inline void fetch_listed(const uint8_t* data, int64_t stride, int64_t bytes, const int32_t* list, int64_t count) {
    for (int64_t i = 0; i < count; ++i) fetch(data + list[kAheadRows + i] * stride, bytes);
}

// Kernel::rows16<kQueries>(rows, queries, totals) gives the sums of 16 rows with 1, 2 or 4 queries, and
// Kernel::finish(query, totals, products) stores those of one query.
template <int kQueries, class Kernel, class Rows>
static inline void products_of_rows(const Kernel& kernel, const Rows& rows, const DecodeQuery* queries,
                                    float* const* products, int64_t begin) {
    typename Kernel::Vector totals[kQueries];
    kernel.template rows16<kQueries>(rows, queries, totals);
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) kernel.finish(queries[q], totals[q], products[q] + begin);
}

template <class Kernel>
static inline void products_of_group(const Kernel& kernel, const DecodeRows& rows, int64_t begin, bool first,
                                     const DecodeQuery* queries, int step, float* const* products) {
    const auto run = [&](const auto& group) {
        if (step == 4) products_of_rows<4>(kernel, group, queries, products, begin);
        if (step == 2) products_of_rows<2>(kernel, group, queries, products, begin);
        if (step == 1) products_of_rows<1>(kernel, group, queries, products, begin);
    };
    if (rows.list == nullptr && begin + kRowsAtOnce <= rows.count) {
        const uint8_t* at = kernel.data + (rows.first + begin) * kernel.stride;
        if (first) fetch(at + kAheadBytes, kRowsAtOnce * kernel.stride);
        return run(NextRows{at, kernel.stride});
    }
    // Past the last row that one again.
    const uint8_t* at[kRowsAtOnce];
    const int64_t last = rows.count - 1;
    for (int64_t i = 0; i < kRowsAtOnce; ++i) {
        at[i] = kernel.data + rows.slot(begin + i < last ? begin + i : last) * kernel.stride;
    }
    if (rows.list != nullptr && first) {
        fetch_listed(kernel.data, kernel.stride, kernel.bytes, rows.list + begin, kRowsAtOnce);
    }
    run(ListedRows{at});
}

// A row comes from memory once for all queries.
template <class Kernel>
static inline void products_of(const Kernel& kernel, const DecodeRows& rows, const DecodeQuery* queries, int64_t count,
                               float* const* products) {
    for (int64_t block = 0; block < rows.count; block += kRowsInCache) {
        const int64_t end = block + kRowsInCache < rows.count ? block + kRowsInCache : rows.count;
        for (int64_t q = 0; q < count;) {
            const int step = count - q >= 4 ? 4 : count - q >= 2 ? 2 : 1;
            for (int64_t i = block; i < end; i += kRowsAtOnce) {
                products_of_group(kernel, rows, i, q == 0, queries + q, step, products + q);
            }
            q += step;
        }
    }
}

// rows16 in tiles of 16 sums: Kernel::tile<kQueries, kRows>(rows, queries, sums).
template <int kQueries, class Kernel, class Rows>
static inline void rows16_in_tiles(const Kernel& kernel, const Rows& rows, const DecodeQuery* queries,
                                   typename Kernel::Vector (&totals)[kQueries]) {
    constexpr int kRows = 16 / kQueries;
    typename Kernel::Vector lanes[kQueries][4];
#pragma GCC unroll 4
    for (int row = 0; row < 16; row += kRows) {
        typename Kernel::Vector sums[kQueries][kRows];
        kernel.template tile<kQueries, kRows>(rows.from(row), queries, sums);
#pragma GCC unroll 4
        for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
            for (int i = 0; i < kRows; i += 4) lanes[q][(row + i) / 4] = sum_within_lanes(sums[q] + i);
        }
    }
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) totals[q] = sum_across_lanes(lanes[q]);
}

}  // namespace sparsecore::cpu
