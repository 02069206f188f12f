// Products with bf16 keys by vdpbf16ps, which adds pairs of products. A kernel of AVX-512 machines that have it.
#include "cpu/attention/decode/avx512_dense.h"

namespace sparsecore::cpu {

namespace {

struct Bf16Rows {
    using Vector = __m512;
    const uint8_t* data;
    int64_t stride, bytes;

    template <int kQueries, int kRows, class Rows>
    void tile(const Rows& rows, const DecodeQuery* queries, __m512 (&sums)[kQueries][kRows]) const {
#pragma GCC unroll 16
        for (int i = 0; i < kQueries * kRows; ++i) sums[i / kRows][i % kRows] = _mm512_setzero_ps();
        for (int64_t byte = 0; byte < bytes; byte += 64) {
            const __mmask32 lanes = lanes32((bytes - byte) / 2);
            __m512bh query[kQueries];
#pragma GCC unroll 4
            for (int q = 0; q < kQueries; ++q) query[q] = (__m512bh)_mm512_load_si512(queries[q].layout + byte);
#pragma GCC unroll 16
            for (int i = 0; i < kRows; ++i) {
                const auto row = (__m512bh)_mm512_maskz_loadu_epi16(lanes, rows[i] + byte);
#pragma GCC unroll 4
                for (int q = 0; q < kQueries; ++q) sums[q][i] = _mm512_dpbf16_ps(sums[q][i], row, query[q]);
            }
        }
    }

    template <int kQueries, class Rows>
    void rows16(const Rows& rows, const DecodeQuery* queries, __m512 (&totals)[kQueries]) const {
        rows16_in_tiles<kQueries>(*this, rows, queries, totals);
    }

    void finish(const DecodeQuery&, __m512 totals, float* products) const { _mm512_storeu_ps(products, totals); }
};

void prepare(const DecodeProblem& p, const DecodeQuery& query) {
    auto* laid_out = reinterpret_cast<uint16_t*>(query.layout);
    for (int64_t d = 0; d < decode_padded(p.width); ++d) laid_out[d] = core::f32_to_bf16(query.values[d]);
}

void dense_products(const DecodeProblem& p, const uint8_t* keys, const DecodeRows& rows, const DecodeQuery* queries,
                    int64_t count, float* const* products) {
    products_of(Bf16Rows{keys, p.keys.row_stride, p.width * 2}, rows, queries, count, products);
}

}  // namespace

void decode_use_avx512_bf16(DecodeKernels& table, const DecodeProblem& p) {
    if (p.planes != 0 || p.key_type != core::DType::BF16) return;
    table.prepare = prepare;
    table.dense_products = dense_products;
}

}  // namespace sparsecore::cpu
