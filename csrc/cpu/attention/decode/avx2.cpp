#include "cpu/common/avx2.h"

#include "cpu/attention/decode/problem.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

constexpr float kInfinity = __builtin_inff();
constexpr int64_t kRowsInCache = 64;

void prepare(const DecodeProblem&, const DecodeQuery&) {}

float sum8(__m256 v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
}

int32_t sum8(__m256i v) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

// body(first row, past the last one) for rows that stay in the first-level cache; those of a list come ahead.
template <class Body>
void over_blocks(const uint8_t* data, int64_t stride, int64_t bytes, const DecodeRows& rows, Body&& body) {
    for (int64_t begin = 0; begin < rows.count; begin += kRowsInCache) {
        const int64_t end = begin + kRowsInCache < rows.count ? begin + kRowsInCache : rows.count;
        for (int64_t i = begin; rows.list != nullptr && i < end; ++i) {
            for (int64_t byte = 0; byte < bytes; byte += 64) {
                _mm_prefetch(reinterpret_cast<const char*>(data + rows.list[i] * stride + byte), _MM_HINT_T0);
            }
        }
        body(begin, end);
    }
}

template <DType kType>
float dense_dot(const uint8_t* row, const float* query, int64_t width) {
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    int64_t d = 0;
    for (; d + 32 <= width; d += 32) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
            sum[v] = _mm256_fmadd_ps(load8_ps<kType>(row, d + 8 * v), _mm256_loadu_ps(query + d + 8 * v), sum[v]);
        }
    }
    for (; d < width; d += 8) {
        sum[0] = _mm256_fmadd_ps(load8_ps<kType>(row, d, width - d), _mm256_loadu_ps(query + d), sum[0]);
    }
    return sum8(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}

template <DType kType>
void dense_of(const DecodeProblem& p, const uint8_t* keys, const DecodeRows& rows, const DecodeQuery* queries,
              int64_t count, float* const* products) {
    over_blocks(keys, p.keys.row_stride, p.width * core::itemsize(kType), rows, [&](int64_t begin, int64_t end) {
        for (int64_t q = 0; q < count; ++q) {
            for (int64_t i = begin; i < end; ++i) {
                products[q][i] = dense_dot<kType>(keys + rows.slot(i) * p.keys.row_stride, queries[q].values, p.width);
            }
        }
    });
}

void dense_products(const DecodeProblem& p, const uint8_t* keys, const DecodeRows& rows, const DecodeQuery* queries,
                    int64_t count, float* const* products) {
    switch (p.key_type) {
        case DType::F32: return dense_of<DType::F32>(p, keys, rows, queries, count, products);
        case DType::F16: return dense_of<DType::F16>(p, keys, rows, queries, count, products);
        default: return dense_of<DType::BF16>(p, keys, rows, queries, count, products);
    }
}

// 16 bytes from row + d on; those past `bytes` are 0.
__m128i load_bytes(const uint8_t* row, int64_t d, int64_t bytes) {
    if (d + 16 <= bytes) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + d));
    alignas(16) uint8_t tail[16] = {};
    for (int64_t i = 0; d + i < bytes; ++i) tail[i] = row[d + i];
    return _mm_load_si128(reinterpret_cast<const __m128i*>(tail));
}

// Sixteen unsigned bytes times 16-bit integers; the padding of a query is zeros.
__m256i multiply16(__m128i bytes, const int16_t* query) {
    return _mm256_madd_epi16(_mm256_cvtepu8_epi16(bytes), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query)));
}

int32_t byte_dot(const uint8_t* row, const int16_t* query, int64_t bytes) {
    __m256i even = _mm256_setzero_si256(), odd = even;
    int64_t d = 0;
    for (; d + 32 <= bytes; d += 32) {
        even = _mm256_add_epi32(even, multiply16(load_bytes(row, d, bytes), query + d));
        odd = _mm256_add_epi32(odd, multiply16(load_bytes(row, d + 16, bytes), query + d + 16));
    }
    for (; d < bytes; d += 16) even = _mm256_add_epi32(even, multiply16(load_bytes(row, d, bytes), query + d));
    return sum8(_mm256_add_epi32(even, odd));
}

int32_t nibble_dot(const uint8_t* row, const int16_t* query, int64_t half) {
    const __m128i mask = _mm_set1_epi8(15);
    __m256i low = _mm256_setzero_si256(), high = low;
    for (int64_t d = 0; d < half; d += 16) {
        const __m128i bytes = load_bytes(row, d, half);
        low = _mm256_add_epi32(low, multiply16(_mm_and_si128(bytes, mask), query + d));
        high = _mm256_add_epi32(high, multiply16(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), query + half + d));
    }
    return sum8(_mm256_add_epi32(low, high));
}

void plane_products(const DecodeProblem& p, const DecodePlane& plane, const uint8_t* data, const DecodeRows& rows,
                    const DecodeQuery* queries, int64_t count, float* const* products) {
    const int64_t bytes = plane.nibbles ? (p.width + 1) / 2 : p.width;
    const auto weight = static_cast<float>(1 << plane.bits);
    over_blocks(data, plane.part.row_stride, bytes, rows, [&](int64_t begin, int64_t end) {
        for (int64_t q = 0; q < count; ++q) {
            const int16_t* query = queries[q].integers;
            const int32_t offset = plane.offset * queries[q].sum;
            for (int64_t i = begin; i < end; ++i) {
                const uint8_t* row = data + rows.slot(i) * plane.part.row_stride;
                const int32_t sum = plane.nibbles ? nibble_dot(row, query, bytes) : byte_dot(row, query, bytes);
                const auto own = static_cast<float>(sum - offset);
                products[q][i] = plane.first ? own : __builtin_fmaf(products[q][i], weight, own);
            }
        }
    });
}

// 2^x for x <= 0: n and f as in avx512_rows.cpp, 2^n in two factors, since n reaches -200.
__m256 exp2_of(__m256 x) {
    x = _mm256_max_ps(set8_ps(-200.0f), x);  // NaN passes as the second operand
    const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 f = _mm256_sub_ps(x, n);
    __m256 p = set8_ps(kDecodeExp2[5]);
#pragma GCC unroll 5
    for (int i = 4; i >= 0; --i) p = _mm256_fmadd_ps(p, f, set8_ps(kDecodeExp2[i]));
    p = _mm256_fmadd_ps(p, f, set8_ps(1.0f));
    const __m256i power = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(power, 1), one = _mm256_set1_epi32(127);
    const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, one), 23);
    const __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(power, half), one), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

float scale_at(const uint8_t* scales, int64_t stride, int64_t slot) {
    float scale;
    __builtin_memcpy(&scale, scales + slot * stride, sizeof(scale));
    return scale;
}

DecodeSums softmax(const DecodeScoring& scoring, const DecodeRows& rows, const float* products, float* p) {
    const __m256 weight = set8_ps(scoring.weight), addend = set8_ps(scoring.addend), factor = set8_ps(scoring.factor);
    __m256 most = set8_ps(-kInfinity);
    for (int64_t i = 0; i < rows.count; i += 8) {
        __m256 score = _mm256_mul_ps(_mm256_fmadd_ps(_mm256_loadu_ps(products + i), weight, addend), factor);
        if (scoring.scales != nullptr) {
            alignas(32) float scales[8] = {};
            for (int64_t j = 0; j < 8 && i + j < rows.count; ++j) {
                scales[j] = scale_at(scoring.scales, scoring.scale_stride, rows.slot(i + j));
            }
            score = _mm256_mul_ps(score, _mm256_load_ps(scales));
        }
        score = _mm256_blendv_ps(set8_ps(-kInfinity), score, _mm256_castsi256_ps(lanes8(rows.count - i)));
        _mm256_storeu_ps(p + i, score);
        most = _mm256_max_ps(score, most);
    }
    alignas(32) float lanes[8];
    _mm256_store_ps(lanes, most);
    float largest = lanes[0];
    for (int i = 1; i < 8; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
    __m256 total = _mm256_setzero_ps();
    for (int64_t i = 0; i < rows.count; i += 8) {
        const __m256 power = exp2_of(_mm256_sub_ps(_mm256_loadu_ps(p + i), set8_ps(largest)));
        _mm256_storeu_ps(p + i, power);
        total = _mm256_add_ps(total, power);
    }
    return {largest, sum8(total)};
}

void token_scores(const float* p, int64_t n, float unit, int64_t* out) {
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 score = _mm256_mul_ps(_mm256_loadu_ps(p + i), set8_ps(unit));
        const __m256 numbers = _mm256_cmp_ps(score, score, _CMP_ORD_Q);
        alignas(32) int32_t rounded[8];
        const __m256i integers = _mm256_cvtps_epi32(_mm256_and_ps(score, numbers));  // half to even
        _mm256_store_si256(reinterpret_cast<__m256i*>(rounded), integers);
        for (int64_t j = 0; j < 8 && i + j < n; ++j) out[i + j] = rounded[j];
    }
}

void collect(const float* p, int64_t n, uint32_t bits, int64_t ties, int32_t* places, float* values) {
    for (int64_t i = 0; i < n; ++i) {
        const uint32_t own = core::float_bits(p[i]);
        const bool equal = own == bits, take = own > bits || (equal && ties > 0);
        ties -= equal;
        *places = static_cast<int32_t>(i);
        *values = p[i];
        places += take;
        values += take;
    }
}

template <DType kType>
__m256 load_value(const uint8_t* row, int64_t d, int64_t left) {
    if constexpr (kType == DType::I8) {
        int64_t bytes = 0;
        if (left >= 8) {
            __builtin_memcpy(&bytes, row + d, 8);
        } else {
            __builtin_memcpy(&bytes, row + d, static_cast<size_t>(left));
        }
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes)));
    } else {
        return load8_ps<kType>(row, d, left);
    }
}

template <DType kType>
void add_rows(const DecodeProblem& p, const uint8_t* data, const DecodeRows& rows, int64_t begin, int64_t end, int64_t column,
              const float* weights, float* sums) {
    __m256 sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sum[v] = _mm256_loadu_ps(sums + column + 8 * v);
    for (int64_t i = begin; i < end; ++i) {
        const uint8_t* row = data + rows.slot(i) * p.values.row_stride;
        const __m256 weight = set8_ps(weights[i - begin]);
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
            const int64_t left = p.value_width - column - 8 * v;
            if (left > 0) sum[v] = _mm256_fmadd_ps(weight, load_value<kType>(row, column + 8 * v, left), sum[v]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) _mm256_storeu_ps(sums + column + 8 * v, sum[v]);
}

template <DType kType>
void values_of(const DecodeProblem& p, int64_t batch, int64_t kv_head, const DecodeRows& rows, const float* const* weights,
               int64_t queries, float* sums) {
    const int64_t padded = decode_padded(p.value_width);
    const uint8_t *data = p.values.head(batch, kv_head), *scales = p.value_scales.head(batch, kv_head);
    over_blocks(data, p.values.row_stride, p.value_width * core::itemsize(kType), rows, [&](int64_t begin, int64_t end) {
        for (int64_t q = 0; q < queries; ++q) {
            float scaled[kRowsInCache];
            for (int64_t i = begin; i < end; ++i) {
                scaled[i - begin] = weights[q][i];
                if (kType == DType::I8) scaled[i - begin] *= scale_at(scales, p.value_scales.row_stride, rows.slot(i));
            }
            for (int64_t column = 0; column < p.value_width; column += 32) {
                add_rows<kType>(p, data, rows, begin, end, column, scaled, sums + q * padded);
            }
        }
    });
}

void values(const DecodeProblem& p, int64_t batch, int64_t kv_head, const DecodeRows& rows, const float* const* weights,
            int64_t queries, float* sums) {
    for (int64_t i = 0; i < queries * decode_padded(p.value_width); ++i) sums[i] = 0.0f;
    switch (p.value_type) {
        case DType::I8: return values_of<DType::I8>(p, batch, kv_head, rows, weights, queries, sums);
        case DType::F32: return values_of<DType::F32>(p, batch, kv_head, rows, weights, queries, sums);
        case DType::F16: return values_of<DType::F16>(p, batch, kv_head, rows, weights, queries, sums);
        default: return values_of<DType::BF16>(p, batch, kv_head, rows, weights, queries, sums);
    }
}

}  // namespace

DecodeKernels decode_avx2() {
    return {prepare, dense_products, plane_products, softmax, token_scores, collect, values};
}

}  // namespace sparsecore::cpu
