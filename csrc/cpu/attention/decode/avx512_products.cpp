#include "cpu/attention/decode/avx512_dense.h"
#include "cpu/attention/decode/avx512_planes.h"
#include "cpu/attention/decode/avx512_tables.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

// ---- dense rows

template <DType kType>
struct DenseRows {
    using Vector = __m512;
    const uint8_t* data;
    int64_t stride, bytes, width;

    template <int kQueries, int kRows, class Rows>
    void tile(const Rows& rows, const DecodeQuery* queries, __m512 (&sums)[kQueries][kRows]) const {
#pragma GCC unroll 16
        for (int i = 0; i < kQueries * kRows; ++i) sums[i / kRows][i % kRows] = _mm512_setzero_ps();
        for (int64_t d = 0; d < width; d += 32) {
            __m512 query[kQueries][2];
#pragma GCC unroll 4
            for (int q = 0; q < kQueries; ++q) {
                const auto* laid_out = reinterpret_cast<const float*>(queries[q].layout) + d;
                query[q][0] = _mm512_load_ps(laid_out);
                query[q][1] = _mm512_load_ps(laid_out + 16);
            }
#pragma GCC unroll 16
            for (int i = 0; i < kRows; ++i) {
                __m512 row[2];
                load_pair<kType>(rows[i], d, width - d, row);
#pragma GCC unroll 4
                for (int q = 0; q < kQueries; ++q) {
                    sums[q][i] = _mm512_fmadd_ps(row[0], query[q][0], sums[q][i]);
                    sums[q][i] = _mm512_fmadd_ps(row[1], query[q][1], sums[q][i]);
                }
            }
        }
    }

    template <int kQueries, class Rows>
    void rows16(const Rows& rows, const DecodeQuery* queries, __m512 (&totals)[kQueries]) const {
        rows16_in_tiles<kQueries>(*this, rows, queries, totals);
    }

    void finish(const DecodeQuery&, __m512 totals, float* products) const { _mm512_storeu_ps(products, totals); }
};

template <DType kType>
void dense_of(const DecodeProblem& p, const uint8_t* keys, const DecodeRows& rows, const DecodeQuery* queries,
              int64_t count, float* const* products) {
    const DenseRows<kType> kernel{keys, p.keys.row_stride, p.width * core::itemsize(kType), p.width};
    products_of(kernel, rows, queries, count, products);
}

void dense_products(const DecodeProblem& p, const uint8_t* keys, const DecodeRows& rows, const DecodeQuery* queries,
                    int64_t count, float* const* products) {
    switch (p.key_type) {
        case DType::F32: return dense_of<DType::F32>(p, keys, rows, queries, count, products);
        case DType::F16: return dense_of<DType::F16>(p, keys, rows, queries, count, products);
        default: return dense_of<DType::BF16>(p, keys, rows, queries, count, products);
    }
}

// ---- planes

void lay_out_planes(const DecodeProblem& p, const DecodeQuery& query) {
    const PlaneLayout layout = plane_layout(p.width);
    const int64_t half = (p.width + 1) / 2;
    for (int64_t i = 0; i < 2 * layout.padded + 4 * layout.half; ++i) query.layout[i] = 0;
    for (int64_t d = 0; d < p.width; ++d) {
        const int32_t integer = query.integers[d];
        const auto a = static_cast<uint8_t>(integer >> 7), b = static_cast<uint8_t>(integer & 127);
        query.layout[d] = a;
        query.layout[layout.padded + d] = b;
        const int which = d < half ? 0 : 1;
        const int64_t place = d < half ? d : d - half;
        plane_nibbles(layout, query, 0, which)[place] = a;
        plane_nibbles(layout, query, 1, which)[place] = b;
        // Rows of up to 32 bytes are read two to a vector.
        if (half <= 32) {
            plane_nibbles(layout, query, 0, which)[32 + place] = a;
            plane_nibbles(layout, query, 1, which)[32 + place] = b;
        }
    }
}

template <int kQueries, int kRows>
void start_or_shift(int part, __m512i (&sums)[kQueries][kRows]) {
#pragma GCC unroll 16
    for (int i = 0; i < kQueries * kRows; ++i) {
        __m512i& sum = sums[i / kRows][i % kRows];
        sum = part == 0 ? _mm512_setzero_si512() : _mm512_slli_epi32(sum, 7);
    }
}

struct PlaneRows {
    using Vector = __m512i;
    const uint8_t* data;
    int64_t stride, bytes;
    PlaneLayout layout;
    const DecodePlane& plane;

    void finish(const DecodeQuery& query, __m512i totals, float* products) const {
        store_plane_products(plane, _mm512_sub_epi32(totals, _mm512_set1_epi32(plane.offset * query.sum)), products);
    }
};

struct ByteRows : PlaneRows {
    template <int kQueries, int kRows, class Rows>
    void tile(const Rows& rows, const DecodeQuery* queries, __m512i (&sums)[kQueries][kRows]) const {
#pragma GCC unroll 2
        for (int part = 0; part < 2; ++part) {
            start_or_shift<kQueries, kRows>(part, sums);
            for (int64_t d = 0; d < bytes; d += 64) {
                const __mmask64 lanes = lanes64(bytes - d);
                __m512i query[kQueries];
#pragma GCC unroll 4
                for (int q = 0; q < kQueries; ++q) query[q] = _mm512_load_si512(plane_bytes(layout, queries[q], part) + d);
#pragma GCC unroll 16
                for (int i = 0; i < kRows; ++i) {
                    const __m512i row = _mm512_maskz_loadu_epi8(lanes, rows[i] + d);
#pragma GCC unroll 4
                    for (int q = 0; q < kQueries; ++q) sums[q][i] = _mm512_dpbusd_epi32(sums[q][i], row, query[q]);
                }
            }
        }
    }

    template <int kQueries, class Rows>
    void rows16(const Rows& rows, const DecodeQuery* queries, __m512i (&totals)[kQueries]) const {
        rows16_in_tiles<kQueries>(*this, rows, queries, totals);
    }
};

__m512i low_nibbles(__m512i bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
__m512i high_nibbles(__m512i bytes) { return low_nibbles(_mm512_srli_epi16(bytes, 4)); }

struct NibbleRows : PlaneRows {
    template <int kQueries, int kRows, class Rows>
    void tile(const Rows& rows, const DecodeQuery* queries, __m512i (&sums)[kQueries][kRows]) const {
#pragma GCC unroll 2
        for (int part = 0; part < 2; ++part) {
            start_or_shift<kQueries, kRows>(part, sums);
            for (int64_t d = 0; d < bytes; d += 64) {
                const __mmask64 lanes = lanes64(bytes - d);
                __m512i first[kQueries], second[kQueries];
#pragma GCC unroll 4
                for (int q = 0; q < kQueries; ++q) {
                    first[q] = _mm512_load_si512(plane_nibbles(layout, queries[q], part, 0) + d);
                    second[q] = _mm512_load_si512(plane_nibbles(layout, queries[q], part, 1) + d);
                }
#pragma GCC unroll 16
                for (int i = 0; i < kRows; ++i) {
                    const __m512i row = _mm512_maskz_loadu_epi8(lanes, rows[i] + d);
                    const __m512i low = low_nibbles(row), high = high_nibbles(row);
#pragma GCC unroll 4
                    for (int q = 0; q < kQueries; ++q) {
                        sums[q][i] = _mm512_dpbusd_epi32(sums[q][i], low, first[q]);
                        sums[q][i] = _mm512_dpbusd_epi32(sums[q][i], high, second[q]);
                    }
                }
            }
        }
    }

    template <int kQueries, class Rows>
    void rows16(const Rows& rows, const DecodeQuery* queries, __m512i (&totals)[kQueries]) const {
        rows16_in_tiles<kQueries>(*this, rows, queries, totals);
    }
};

// Rows of at most 32 bytes: rows i and i + 8 share a vector.
struct ShortNibbleRows : PlaneRows {
    template <int kQueries, class Rows>
    void rows16(const Rows& rows, const DecodeQuery* queries, __m512i (&totals)[kQueries]) const {
        const auto lanes = static_cast<__mmask32>(lanes64(bytes));
        __m512i within[kQueries][2];
#pragma GCC unroll 2
        for (int four = 0; four < 2; ++four) {
            __m512i low[4], high[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) {
                const __m256i lower = _mm256_maskz_loadu_epi8(lanes, rows[4 * four + i]);
                const __m256i upper = _mm256_maskz_loadu_epi8(lanes, rows[4 * four + i + 8]);
                const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1);
                low[i] = low_nibbles(both);
                high[i] = high_nibbles(both);
            }
#pragma GCC unroll 4
            for (int q = 0; q < kQueries; ++q) {
                __m512i sums[1][4];
#pragma GCC unroll 2
                for (int part = 0; part < 2; ++part) {
                    start_or_shift<1, 4>(part, sums);
                    const __m512i first = _mm512_load_si512(plane_nibbles(layout, queries[q], part, 0));
                    const __m512i second = _mm512_load_si512(plane_nibbles(layout, queries[q], part, 1));
#pragma GCC unroll 4
                    for (int i = 0; i < 4; ++i) {
                        sums[0][i] = _mm512_dpbusd_epi32(sums[0][i], low[i], first);
                        sums[0][i] = _mm512_dpbusd_epi32(sums[0][i], high[i], second);
                    }
                }
                within[q][four] = sum_within_lanes(sums[0]);
            }
        }
#pragma GCC unroll 4
        for (int q = 0; q < kQueries; ++q) {
            // Rows 0-3, 8-11, 4-7, 12-15.
            const __m512i pairs = sum_lane_pairs(within[q][0], within[q][1]);
            totals[q] = _mm512_shuffle_i32x4(pairs, pairs, 0xd8);
        }
    }
};

void plane_products(const DecodeProblem& p, const DecodePlane& plane, const uint8_t* data, const DecodeRows& rows,
                    const DecodeQuery* queries, int64_t count, float* const* products) {
    const int64_t bytes = plane.nibbles ? (p.width + 1) / 2 : p.width;
    const PlaneRows base{data, plane.part.row_stride, bytes, plane_layout(p.width), plane};
    if (!plane.nibbles) return products_of(ByteRows{base}, rows, queries, count, products);
    if (bytes <= 32) return products_of(ShortNibbleRows{base}, rows, queries, count, products);
    products_of(NibbleRows{base}, rows, queries, count, products);
}

void prepare(const DecodeProblem& p, const DecodeQuery& query) {
    if (p.planes != 0) return lay_out_planes(p, query);
    auto* laid_out = reinterpret_cast<float*>(query.layout);
    for (int64_t d = 0; d < decode_padded(p.width); ++d) {
        const bool pairs = p.key_type == DType::BF16;
        laid_out[pairs ? place_in_pair<DType::BF16>(d) : d] = query.values[d];
    }
}

}  // namespace

void decode_products_avx512(DecodeKernels& table) {
    table.prepare = prepare;
    table.dense_products = dense_products;
    table.plane_products = plane_products;
}

}  // namespace sparsecore::cpu
