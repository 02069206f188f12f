// Sums of V rows, 64 rows at a time: for each 64 columns the rows come from the first-level cache.
#include "cpu/attention/decode/avx512_dense.h"
#include "cpu/attention/decode/avx512_tables.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

constexpr int64_t kColumns = 64, kQueriesAtOnce = 16;

// Addresses of the rows of one block, past the last one that one again, up to a multiple of 4.
struct BlockRows {
    const uint8_t* at[kDecodeBlock];
    int64_t count, ahead;  // ahead: distance in bytes of rows that are to be fetched meanwhile, 0 for none
};

BlockRows block_rows(const DecodePart& part, const uint8_t* data, int64_t bytes, const DecodeRows& rows, int64_t begin) {
    BlockRows block;
    block.count = rows.count - begin < kDecodeBlock ? rows.count - begin : kDecodeBlock;
    const int64_t last = begin + block.count - 1;
    for (int64_t i = 0; i < kDecodeBlock; ++i) {
        block.at[i] = data + rows.slot(begin + i < last ? begin + i : last) * part.row_stride;
    }
    block.ahead = rows.list == nullptr ? kAheadBytes : 0;
    if (rows.list != nullptr) fetch_listed(data, part.row_stride, bytes, rows.list + begin, block.count);
    return block;
}

// ---- dense values

template <DType kType, int kQueries>
void add_dense(const BlockRows& block, bool fetches, int64_t column, int64_t width, const float* const* weights,
               int64_t begin, float* sums, int64_t padded) {
    __m512 sum[kQueries][4];
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) sum[q][v] = _mm512_loadu_ps(sums + q * padded + column + 16 * v);
    }
    for (int64_t i = 0; i < block.count; ++i) {
        if (fetches) fetch(block.at[i] + column * core::itemsize(kType) + block.ahead, kColumns * core::itemsize(kType));
        __m512 low[2], high[2];
        load_pair<kType>(block.at[i], column, width - column, low);
        load_pair<kType>(block.at[i], column + 32, width - column - 32, high);
#pragma GCC unroll 4
        for (int q = 0; q < kQueries; ++q) {
            const __m512 weight = _mm512_set1_ps(weights[q][begin + i]);
            sum[q][0] = _mm512_fmadd_ps(weight, low[0], sum[q][0]);
            sum[q][1] = _mm512_fmadd_ps(weight, low[1], sum[q][1]);
            sum[q][2] = _mm512_fmadd_ps(weight, high[0], sum[q][2]);
            sum[q][3] = _mm512_fmadd_ps(weight, high[1], sum[q][3]);
        }
    }
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) _mm512_storeu_ps(sums + q * padded + column + 16 * v, sum[q][v]);
    }
}

template <DType kType>
void dense_values(const DecodeProblem& p, int64_t batch, int64_t kv_head, const DecodeRows& rows,
                  const float* const* weights, int64_t queries, float* sums) {
    const int64_t padded = decode_padded(p.value_width);
    const uint8_t* data = p.values.head(batch, kv_head);
    for (int64_t begin = 0; begin < rows.count; begin += kDecodeBlock) {
        const BlockRows block = block_rows(p.values, data, p.value_width * core::itemsize(kType), rows, begin);
        for (int64_t column = 0; column < p.value_width; column += kColumns) {
            for (int64_t q = 0; q < queries;) {
                const int64_t step = queries - q >= 4 ? 4 : queries - q >= 2 ? 2 : 1;
                const auto add = step == 4 ? add_dense<kType, 4> : step == 2 ? add_dense<kType, 2> : add_dense<kType, 1>;
                add(block, q == 0 && block.ahead != 0, column, p.value_width, weights + q, begin, sums + q * padded, padded);
                q += step;
            }
        }
    }
    if (kType != DType::BF16) return;
    for (int64_t q = 0; q < queries; ++q) {
        float* row = sums + q * padded;
        for (int64_t d = 0; d < padded; d += 32) {
            float apart[32];
            __builtin_memcpy(apart, row + d, sizeof(apart));
            for (int64_t i = 0; i < 32; ++i) row[d + i] = apart[place_in_pair<kType>(i)];
        }
    }
}

// ---- int8 values, multiplied as integers: a block's weights become 16 bits, 256 a + b with a and b as bytes

struct Weights {
    alignas(64) uint8_t a[kDecodeBlock], b[kDecodeBlock];
    float unit;
};

__m512 scales_of(const DecodeProblem& p, const uint8_t* data, const DecodeRows& rows, int64_t i, __mmask16 lanes) {
    if (rows.list == nullptr && p.value_scales.row_stride == 4) {
        return _mm512_maskz_loadu_ps(lanes, data + (rows.first + i) * 4);
    }
    alignas(64) float scales[16] = {};
    for (int lane = 0; lane < 16 && (lanes >> lane & 1) != 0; ++lane) {
        __builtin_memcpy(scales + lane, data + rows.slot(i + lane) * p.value_scales.row_stride, 4);
    }
    return _mm512_load_ps(scales);
}

void quantise(const __m512 (&scales)[4], const float* weights, int64_t count, Weights& out) {
    __m512 product[4], largest = _mm512_setzero_ps();
    __mmask16 nan = 0;
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
        product[v] = _mm512_mul_ps(scales[v], _mm512_maskz_loadu_ps(lanes16(count - 16 * v), weights + 16 * v));
        largest = _mm512_max_ps(product[v], largest);
        nan = static_cast<__mmask16>(nan | _mm512_cmp_ps_mask(product[v], product[v], _CMP_UNORD_Q));
    }
    // Below 2^-100 the products are too small to be seen beside any other.
    const float most = _mm512_reduce_max_ps(largest), steps = most > 0x1p-100f ? 65535.0f / most : 0.0f;
    out.unit = nan != 0 ? __builtin_nanf("") : most / 65535.0f;
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
        const __m512i integers = _mm512_cvt_roundps_epi32(_mm512_mul_ps(product[v], _mm512_set1_ps(steps)),
                                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m128i high = _mm512_cvtepi32_epi8(_mm512_srli_epi32(integers, 8));
        _mm_store_si128(reinterpret_cast<__m128i*>(out.a + 16 * v), high);
        _mm_store_si128(reinterpret_cast<__m128i*>(out.b + 16 * v), _mm512_cvtepi32_epi8(integers));
    }
}

__m512i four_weights(const uint8_t* weights) {
    int32_t bits;
    __builtin_memcpy(&bits, weights, 4);
    return _mm512_set1_epi32(bits);
}

// Bytes of four rows become fours of one column each: vector j has columns 16 lane + 4 j + 0 ... 3.
void interleave(const uint8_t* const* at, int64_t column, __mmask64 lanes, __m512i (&fours)[4]) {
    __m512i row[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) row[i] = _mm512_maskz_loadu_epi8(lanes, at[i] + column);
    const __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]), high01 = _mm512_unpackhi_epi8(row[0], row[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]), high23 = _mm512_unpackhi_epi8(row[2], row[3]);
    fours[0] = _mm512_unpacklo_epi16(low01, low23);
    fours[1] = _mm512_unpackhi_epi16(low01, low23);
    fours[2] = _mm512_unpacklo_epi16(high01, high23);
    fours[3] = _mm512_unpackhi_epi16(high01, high23);
}

template <int kQueries>
void add_integers(const BlockRows& block, bool fetches, int64_t column, int64_t width, const Weights* weights, float* sums,
                  int64_t padded) {
    const int64_t left = width - column;
    const __mmask64 lanes = left >= 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
    __m512i a[kQueries][4], b[kQueries][4];
#pragma GCC unroll 8
    for (int i = 0; i < kQueries * 4; ++i) a[i / 4][i % 4] = b[i / 4][i % 4] = _mm512_setzero_si512();
    for (int64_t i = 0; i < block.count; i += 4) {
#pragma GCC unroll 4
        for (int row = 0; row < 4 && fetches; ++row) _mm_prefetch(block.at[i + row] + column + block.ahead, _MM_HINT_T1);
        __m512i fours[4];
        interleave(block.at + i, column, lanes, fours);
#pragma GCC unroll 2
        for (int q = 0; q < kQueries; ++q) {
            const __m512i of_a = four_weights(weights[q].a + i), of_b = four_weights(weights[q].b + i);
#pragma GCC unroll 4
            for (int v = 0; v < 4; ++v) {
                a[q][v] = _mm512_dpbusd_epi32(a[q][v], of_a, fours[v]);
                b[q][v] = _mm512_dpbusd_epi32(b[q][v], of_b, fours[v]);
            }
        }
    }
#pragma GCC unroll 2
    for (int q = 0; q < kQueries; ++q) {
        const __m512 unit = _mm512_set1_ps(weights[q].unit);
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
            float* place = sums + q * padded + column + 16 * v;
            const __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(a[q][v], 8), b[q][v]);
            _mm512_storeu_ps(place, _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), unit, _mm512_loadu_ps(place)));
        }
    }
}

void integer_values(const DecodeProblem& p, int64_t batch, int64_t kv_head, const DecodeRows& rows,
                    const float* const* weights, int64_t queries, float* sums) {
    const int64_t padded = decode_padded(p.value_width);
    const uint8_t *data = p.values.head(batch, kv_head), *scales = p.value_scales.head(batch, kv_head);
    Weights integers[kQueriesAtOnce];
    for (int64_t begin = 0; begin < rows.count; begin += kDecodeBlock) {
        const BlockRows block = block_rows(p.values, data, p.value_width, rows, begin);
        __m512 scale[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) scale[v] = scales_of(p, scales, rows, begin + 16 * v, lanes16(block.count - 16 * v));
        for (int64_t q = 0; q < queries; ++q) quantise(scale, weights[q] + begin, block.count, integers[q]);
        for (int64_t column = 0; column < p.value_width; column += kColumns) {
            for (int64_t q = 0; q < queries; q += 2) {
                const auto add = q + 2 <= queries ? add_integers<2> : add_integers<1>;
                add(block, q == 0 && block.ahead != 0, column, p.value_width, integers + q, sums + q * padded, padded);
            }
        }
    }
    for (int64_t q = 0; q < queries; ++q) {
        for (int64_t column = 0; column < padded; column += kColumns) {
            float apart[kColumns], *row = sums + q * padded + column;
            __builtin_memcpy(apart, row, sizeof(apart));
            for (int64_t i = 0; i < kColumns; ++i) row[i] = apart[i / 4 % 4 * 16 + i / 16 * 4 + i % 4];
        }
    }
}

void values(const DecodeProblem& p, int64_t batch, int64_t kv_head, const DecodeRows& rows, const float* const* weights,
            int64_t queries, float* sums) {
    for (int64_t i = 0; i < queries * decode_padded(p.value_width); ++i) sums[i] = 0.0f;
    switch (p.value_type) {
        case DType::I8: return integer_values(p, batch, kv_head, rows, weights, queries, sums);
        case DType::F32: return dense_values<DType::F32>(p, batch, kv_head, rows, weights, queries, sums);
        case DType::F16: return dense_values<DType::F16>(p, batch, kv_head, rows, weights, queries, sums);
        default: return dense_values<DType::BF16>(p, batch, kv_head, rows, weights, queries, sums);
    }
}

}  // namespace

void decode_values_avx512(DecodeKernels& table) { table.values = values; }

}  // namespace sparsecore::cpu
