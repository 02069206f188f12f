// Integers of a head in rows: [padded_keys, padded_width]. Integer sums are 64 bits wide, so any width is exact.
#include <algorithm>
#include <cmath>

#include "cpu/attention/kernels.h"

namespace sparsecore::cpu {

namespace {

float load(const AttentionProblem& p, const AttentionTensor& t, int64_t head, int64_t token, int64_t column) {
    return core::load_float(t.data, token_offset(p, t, head, token) + column * t.column_stride, p.dtype);
}

// Integers of one token into out [padded_width]; the scale is returned.
float quantise(const AttentionProblem& p, const AttentionTensor& t, int64_t head, int64_t token, int16_t* out) {
    float largest = 0.0f;
    for (int64_t d = 0; d < p.width; ++d) {
        const float magnitude = std::fabs(load(p, t, head, token, d));
        largest = magnitude > largest || magnitude != magnitude ? magnitude : largest;
        if (largest != largest) break;
    }
    const int bits = p.msb_bits + p.lsb_bits;
    const Quantised scale = token_scale(largest, bits);
    const float limit = static_cast<float>((1 << (bits - 1)) - 1);
    for (int64_t d = 0; d < p.width; ++d) {
        const float rounded = scale.finite ? std::nearbyint(load(p, t, head, token, d) / scale.scale) : 0.0f;
        out[d] = static_cast<int16_t>(std::clamp(rounded, -limit, limit));
    }
    return scale.scale;
}

void prepare_keys(const AttentionProblem& p, const AttentionKeys& keys, const AttentionScratch&, int64_t head,
                  int64_t block) {
    const int64_t last = std::min(p.keys, (block + 1) * kKeyBlock);
    for (int64_t key = block * kKeyBlock; key < last; ++key) {
        const int64_t row = (head * padded_keys(p) + key) * padded_width(p);
        keys.scales[head * padded_keys(p) + key] = quantise(p, p.k, head, key, keys.whole + row);
        if (p.lsb_bits > 0) {
            for (int64_t d = 0; d < p.width; ++d) {
                keys.high[row + d] = static_cast<int16_t>(high_part(keys.whole[row + d], p.lsb_bits));
            }
        }
        if (keys.values == nullptr) continue;
        float* value = keys.values + (head * p.keys + key) * p.value_width;
        for (int64_t d = 0; d < p.value_width; ++d) value[d] = load(p, p.v, head, key, d);
    }
}

const uint8_t* mask_row(const AttentionProblem& p, int64_t head, int64_t query) {
    if (p.mask.data == nullptr) return nullptr;
    return static_cast<const uint8_t*>(p.mask.data) + token_offset(p, p.mask, head, query);
}

// Probabilities of one query into `row`; the largest of them is returned, 2 for a query that attends to nothing.
float softmax_row(const AttentionProblem& p, const AttentionKeys& keys, const int16_t* integers, int64_t head,
                  const int16_t* query, float query_scale, const uint8_t* mask, float* row) {
    const float* scales = keys.scales + head * padded_keys(p);
    const float factor = query_scale * p.scale;
    float largest = -INFINITY;
    bool any = false;
    for (int64_t j = 0; j < p.keys; ++j) {
        if (mask != nullptr && mask[j * p.mask.column_stride] == 0) continue;
        const int16_t* key = integers + (head * padded_keys(p) + j) * padded_width(p);
        int64_t sum = 0;
        for (int64_t d = 0; d < p.width; ++d) sum += static_cast<int32_t>(query[d]) * key[d];
        row[j] = static_cast<float>(sum) * factor * scales[j];
        largest = std::max(largest, row[j]);
        any = true;
    }
    float total = 0.0f;
    for (int64_t j = 0; j < p.keys; ++j) {
        const bool attend = mask == nullptr || mask[j * p.mask.column_stride] != 0;
        row[j] = attend ? std::exp(row[j] - largest) : 0.0f;
        total += row[j];
    }
    if (!any) return 2.0f;
    const float inverse = 1.0f / total;
    for (int64_t j = 0; j < p.keys; ++j) {
        // Not a product for masked keys: a NaN total must not reach them.
        if (mask == nullptr || mask[j * p.mask.column_stride] != 0) row[j] *= inverse;
    }
    return inverse;
}

void multiply_values(const AttentionProblem& p, const AttentionKeys& keys, int64_t head, int64_t query, const float* row,
                     float* sum) {
    std::fill_n(sum, p.value_width, 0.0f);
    for (int64_t j = 0; j < p.keys; ++j) {
        const float* value = keys.values + (head * p.keys + j) * p.value_width;
        for (int64_t d = 0; d < p.value_width; ++d) sum[d] += row[j] * value[d];
    }
    const int64_t first = token_offset(p, p.out, head, query);
    for (int64_t d = 0; d < p.value_width; ++d) {
        core::store_float(p.out.data, first + d * p.out.column_stride, p.dtype, sum[d]);
    }
}

void run_tile(const AttentionProblem& p, const AttentionKeys& keys, const AttentionScratch& scratch, int64_t head,
              int64_t tile) {
    float* sums = keys.tile_sums + (head * query_tiles(p) + tile) * padded_keys(p);
    std::fill_n(sums, p.keys, 0.0f);
    const int64_t last = std::min(p.queries, (tile + 1) * query_tile(p));
    for (int64_t query = tile * query_tile(p); query < last; ++query) {
        float* row = scratch.scores;
        const uint8_t* mask = mask_row(p, head, query);
        const float scale = quantise(p, p.q, head, query, scratch.queries);
        const float largest = softmax_row(p, keys, keys.high, head, scratch.queries, scale, mask, row);
        const bool again = p.lsb_bits > 0 && largest < p.threshold && largest <= 1.5f;
        if (again) softmax_row(p, keys, keys.whole, head, scratch.queries, scale, mask, row);
        static_cast<uint8_t*>(p.needs.data)[token_offset(p, p.needs, head, query)] = again;
        multiply_values(p, keys, head, query, row, scratch.sums);
        for (int64_t j = 0; j < p.keys; ++j) sums[j] += row[j];
    }
}

}  // namespace

AttentionKernels attention_portable() { return {prepare_keys, run_tile}; }

}  // namespace sparsecore::cpu
