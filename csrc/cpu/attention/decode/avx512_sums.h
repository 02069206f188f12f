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

// Addresses of 16 rows; past the last row that one again. Rows of a list that come next are fetched meanwhile.
struct RowAddresses {
    const uint8_t* at[kRowsAtOnce];

    RowAddresses(const uint8_t* data, int64_t stride, int64_t bytes, const DecodeRows& rows, int64_t begin) {
        const int64_t last = rows.count - 1;
        for (int64_t i = 0; i < kRowsAtOnce; ++i) at[i] = data + rows.slot(begin + i < last ? begin + i : last) * stride;
        if (rows.list == nullptr) return;
        for (int64_t i = 0; i < kRowsAtOnce; ++i) {
            const uint8_t* ahead = data + rows.list[(begin < last ? begin : last) + kRowsAtOnce + i] * stride;
            for (int64_t byte = 0; byte < bytes; byte += 64) _mm_prefetch(ahead + byte, _MM_HINT_T0);
        }
    }
};

// Kernel::rows16<kQueries>(call, addresses, queries, totals) gives the sums of 16 rows with 1, 2 or 4 queries, and
// Kernel::finish(call, query, totals, products) stores those of one query. A row comes from memory once for all queries.
template <class Kernel, int kQueries>
static inline void products_of_rows(const Kernel& kernel, const DecodeRows& rows, int64_t begin, const DecodeQuery* queries,
                                    float* const* products) {
    typename Kernel::Vector totals[kQueries];
    const RowAddresses addresses(kernel.data, kernel.stride, kernel.bytes, rows, begin);
    kernel.template rows16<kQueries>(addresses.at, queries, totals);
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) kernel.finish(queries[q], totals[q], products[q] + begin);
}

template <class Kernel>
static inline void products_of(const Kernel& kernel, const DecodeRows& rows, const DecodeQuery* queries, int64_t count,
                               float* const* products) {
    for (int64_t block = 0; block < rows.count; block += kRowsInCache) {
        const int64_t end = block + kRowsInCache < rows.count ? block + kRowsInCache : rows.count;
        for (int64_t q = 0; q < count;) {
            const int step = count - q >= 4 ? 4 : count - q >= 2 ? 2 : 1;
            for (int64_t i = block; i < end; i += kRowsAtOnce) {
                if (step == 4) products_of_rows<Kernel, 4>(kernel, rows, i, queries + q, products + q);
                if (step == 2) products_of_rows<Kernel, 2>(kernel, rows, i, queries + q, products + q);
                if (step == 1) products_of_rows<Kernel, 1>(kernel, rows, i, queries + q, products + q);
            }
            q += step;
        }
    }
}

// rows16 in tiles of 16 sums: Kernel::tile<kQueries, kRows>(addresses, queries, sums).
template <class Kernel, int kQueries>
static inline void rows16_in_tiles(const Kernel& kernel, const uint8_t* const* at, const DecodeQuery* queries,
                                   typename Kernel::Vector (&totals)[kQueries]) {
    constexpr int kRows = 16 / kQueries;
    typename Kernel::Vector lanes[kQueries][4];
#pragma GCC unroll 4
    for (int row = 0; row < 16; row += kRows) {
        typename Kernel::Vector sums[kQueries][kRows];
        kernel.template tile<kQueries, kRows>(at + row, queries, sums);
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
