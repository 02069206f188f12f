// The kernels in plain C++: what the others are compared with, and what runs where there are none.
#include <cmath>

#include "cpu/attention/decode/problem.h"

namespace sparsecore::cpu {

namespace {

void prepare(const DecodeProblem&, const DecodeQuery&) {}

void dense_products(const DecodeProblem& p, const uint8_t* keys, const DecodeRows& rows, const DecodeQuery* queries,
                    int64_t count, float* const* products) {
    for (int64_t i = 0; i < rows.count; ++i) {
        const uint8_t* row = keys + rows.slot(i) * p.keys.row_stride;
        for (int64_t q = 0; q < count; ++q) {
            float sum = 0.0f;
            for (int64_t d = 0; d < p.width; ++d) sum += queries[q].values[d] * core::load_float(row, d, p.key_type);
            products[q][i] = sum;
        }
    }
}

int64_t dot(const DecodeProblem& p, const DecodePlane& plane, const uint8_t* row, const int16_t* query) {
    int64_t sum = 0;
    if (!plane.nibbles) {
        for (int64_t d = 0; d < p.width; ++d) sum += int64_t{query[d]} * row[d];
        return sum;
    }
    const int64_t half = (p.width + 1) / 2;
    for (int64_t d = 0; d < half; ++d) {
        sum += int64_t{query[d]} * (row[d] & 15);
        if (d + half < p.width) sum += int64_t{query[d + half]} * (row[d] >> 4);
    }
    return sum;
}

void plane_products(const DecodeProblem& p, const DecodePlane& plane, const uint8_t* data, const DecodeRows& rows,
                    const DecodeQuery* queries, int64_t count, float* const* products) {
    const auto weight = static_cast<float>(1 << plane.bits);
    for (int64_t i = 0; i < rows.count; ++i) {
        const uint8_t* row = data + rows.slot(i) * plane.part.row_stride;
        for (int64_t q = 0; q < count; ++q) {
            const int64_t sum = dot(p, plane, row, queries[q].integers) - int64_t{plane.offset} * queries[q].sum;
            const auto own = static_cast<float>(sum);
            products[q][i] = plane.first ? own : std::fma(products[q][i], weight, own);
        }
    }
}

float scale_at(const DecodeScoring& scoring, const DecodeRows& rows, int64_t i) {
    float scale = 1.0f;
    if (scoring.scales != nullptr) {
        __builtin_memcpy(&scale, scoring.scales + rows.slot(i) * scoring.scale_stride, sizeof(scale));
    }
    return scale;
}

DecodeSums softmax(const DecodeScoring& scoring, const DecodeRows& rows, const float* products, float* p) {
    DecodeSums result{-INFINITY, 0.0f};
    for (int64_t i = 0; i < rows.count; ++i) {
        p[i] = std::fma(products[i], scoring.weight, scoring.addend) * scoring.factor * scale_at(scoring, rows, i);
        result.largest = p[i] > result.largest ? p[i] : result.largest;
    }
    for (int64_t i = 0; i < rows.count; ++i) {
        p[i] = std::exp2(p[i] - result.largest);
        result.sum += p[i];
    }
    return result;
}

void token_scores(const float* p, int64_t n, float unit, int64_t* out) {
    for (int64_t i = 0; i < n; ++i) {
        const float score = p[i] * unit;
        out[i] = score == score ? static_cast<int64_t>(std::nearbyint(score)) : 0;
    }
}

void collect(const float* p, int64_t n, uint32_t bits, int64_t ties, int32_t* places, float* values) {
    for (int64_t i = 0; i < n; ++i) {
        const uint32_t own = core::float_bits(p[i]);
        if (own < bits || (own == bits && ties-- <= 0)) continue;
        *places++ = static_cast<int32_t>(i);
        *values++ = p[i];
    }
}

void values(const DecodeProblem& p, int64_t batch, int64_t kv_head, const DecodeRows& rows, const float* const* weights,
            int64_t queries, float* sums) {
    const int64_t padded = decode_padded(p.value_width);
    const bool integers = p.value_type == core::DType::I8;
    const DecodeScoring scales{1.0f, 0.0f, 1.0f, integers ? p.value_scales.head(batch, kv_head) : nullptr,
                               p.value_scales.row_stride};
    for (int64_t i = 0; i < queries * padded; ++i) sums[i] = 0.0f;
    for (int64_t i = 0; i < rows.count; ++i) {
        const uint8_t* row = p.values.head(batch, kv_head) + rows.slot(i) * p.values.row_stride;
        const float scale = scale_at(scales, rows, i);
        for (int64_t q = 0; q < queries; ++q) {
            const float weight = weights[q][i] * scale;
            float* sum = sums + q * padded;
            for (int64_t d = 0; d < p.value_width; ++d) {
                sum[d] += weight * (integers ? static_cast<float>(reinterpret_cast<const int8_t*>(row)[d])
                                             : core::load_float(row, d, p.value_type));
            }
        }
    }
}

}  // namespace

DecodeKernels decode_portable() {
    return {prepare, dense_products, plane_products, softmax, token_scores, collect, values};
}

}  // namespace sparsecore::cpu
