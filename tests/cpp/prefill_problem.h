// Problems of scored attention drawn at random, and what comes out of them in float64: for the kernels of every device.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/attention/prefill.h"
#include "cpu/attention/scores.h"
#include "harness.h"
#include "weights.h"

namespace prefill {

using namespace sparsecore;
using namespace weights;
using core::make_span;

struct Shape {
    int64_t batch, key_heads, group, queries, keys, width, value_width;
    int64_t heads() const { return key_heads * group; }
};

// [B, heads, tokens, width] as it is named, or with tokens before heads.
struct Tensor {
    Memory memory;
    Span span;
    Tensor(int64_t batch, int64_t heads, int64_t tokens, int64_t width, DType dtype, float size)
        : memory(batch * heads * tokens * width * itemsize(dtype)),
          span(make_span(memory.data(), dtype, {batch, heads, tokens, width})) {
        for (int64_t i = 0; i < batch * heads * tokens * width; ++i) {
            set_value(memory.data(), i, dtype, harness::normal() * size);
        }
        if (harness::integer(0, 1) == 1) span.strides[1] = width, span.strides[2] = heads * width;
    }
    int64_t place(int64_t b, int64_t h, int64_t t, int64_t d) const {
        return b * span.strides[0] + h * span.strides[1] + t * span.strides[2] + d;
    }
    double at(int64_t b, int64_t h, int64_t t, int64_t d) const {
        return core::load_float(span.data, place(b, h, t, d), span.dtype);
    }
};

struct Problem {
    Shape shape;
    DType dtype;
    Tensor q, k, v;
    Memory mask, counted;
    bool has_mask, mask_per_query, has_counted, causal;
    float scale;
    double value_keep;
    // Block lists of some of the heads, which others share; none where query_block is 0.
    int64_t query_block = 0, key_block = 0, list_heads = 1;
    std::vector<uint8_t> listed = {};  // [list_heads, query blocks, key blocks]

    int64_t query_blocks() const { return (shape.queries + query_block - 1) / query_block; }
    int64_t key_blocks() const { return (shape.keys + key_block - 1) / key_block; }
    bool lists(int64_t h, int64_t query, int64_t key) const {
        return listed[static_cast<size_t>((h % list_heads * query_blocks() + query) * key_blocks() + key)] != 0;
    }
    bool sees(int64_t b, int64_t h, int64_t i, int64_t j) const {
        if (query_block > 0 && !lists(h, i / query_block, j / key_block)) return false;
        if (causal && j > i + shape.keys - shape.queries) return false;
        const int64_t row = mask_per_query ? (b * shape.heads() + h) * shape.queries + i : b;
        return !has_mask || mask.bytes[static_cast<size_t>(row * shape.keys + j)] != 0;
    }
    bool counts(int64_t b, int64_t i) const {
        return !has_counted || counted.bytes[static_cast<size_t>(b * shape.queries + i)] != 0;
    }
};

inline Problem random_problem() {
    const Shape s{harness::integer(1, 2), harness::integer(1, 2), harness::integer(1, 3),
                  harness::pick<int64_t>({0, 1, 2, 11, 13, 33, 40}), harness::pick<int64_t>({0, 1, 3, 16, 50, 64, 65, 140}),
                  harness::pick<int64_t>({0, 1, 2, 31, 32, 64, 80}), harness::pick<int64_t>({0, 1, 20, 33, 64, 100})};
    const DType dtype = random_float_type();
    Problem p{s, dtype,
              Tensor(s.batch, s.heads(), s.queries, s.width, dtype, 1.0f),
              Tensor(s.batch, s.key_heads, s.keys, s.width, dtype, harness::pick<float>({0.1f, 1.0f, 3.0f})),
              Tensor(s.batch, s.key_heads, s.keys, s.value_width, dtype, 1.0f), Memory(), Memory(s.batch * s.queries),
              harness::integer(0, 1) == 1, harness::integer(0, 1) == 1, harness::integer(0, 1) == 1,
              harness::integer(0, 1) == 1, harness::pick<float>({0.125f, -0.3f, 0.0f}),
              harness::pick<double>({1.0, 0.3, 0.01})};
    p.mask = Memory(s.keys * (p.mask_per_query ? s.batch * s.heads() * s.queries : s.batch));
    const int64_t one_in = harness::pick<int64_t>({1, 2, 10});
    for (uint8_t& byte : p.mask.bytes) byte = harness::integer(1, one_in) == 1 ? 0 : 255;
    for (uint8_t& byte : p.counted.bytes) byte = static_cast<uint8_t>(harness::integer(0, 1));
    return p;
}

struct Result {
    Memory out, lse, tokens, heads, used;
    template <class T>
    static T get(const Memory& memory, int64_t i) {
        T value;
        std::memcpy(&value, memory.bytes.data() + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
        return value;
    }
    bool operator==(const Result& r) const {
        return out.bytes == r.out.bytes && lse.bytes == r.lse.bytes && tokens.bytes == r.tokens.bytes &&
               heads.bytes == r.heads.bytes && used.bytes == r.used.bytes;
    }
};

// Probabilities of one query in float64; -1 for a key that it does not see.
inline std::vector<double> probabilities(const Problem& p, int64_t b, int64_t h, int64_t i, double* lse) {
    const Shape& s = p.shape;
    std::vector<double> row(static_cast<size_t>(s.keys), -1.0);
    double largest = -INFINITY, total = 0.0;
    std::vector<double> scores(row.size());
    for (int64_t j = 0; j < s.keys; ++j) {
        if (!p.sees(b, h, i, j)) continue;
        double sum = 0.0;
        for (int64_t d = 0; d < s.width; ++d) sum += p.q.at(b, h, i, d) * p.k.at(b, h / s.group, j, d);
        scores[static_cast<size_t>(j)] = sum * p.scale;
        largest = std::max(largest, sum * p.scale);
    }
    for (int64_t j = 0; j < s.keys; ++j) total += p.sees(b, h, i, j) ? std::exp(scores[static_cast<size_t>(j)] - largest) : 0;
    for (int64_t j = 0; j < s.keys; ++j) {
        if (p.sees(b, h, i, j)) row[static_cast<size_t>(j)] = std::exp(scores[static_cast<size_t>(j)] - largest) / total;
    }
    *lse = total > 0 ? largest + std::log(total) : -INFINITY;
    return row;
}

// Sums of one head, as they should be.
struct Expected {
    std::vector<double> terms, counted;  // a key: sum of the probabilities, and how many queries count
    int64_t head_units = 0;
};

inline void compare_query(const Problem& p, const Result& r, int64_t b, int64_t h, int64_t i, Expected& expected) {
    const Shape& s = p.shape;
    const double tolerance = p.dtype == DType::F32 ? 2e-5 : p.dtype == DType::F16 ? 3e-3 : 3e-2;
    double lse;
    const std::vector<double> row = probabilities(p, b, h, i, &lse);
    const int64_t place = (b * s.heads() + h) * s.queries + i;
    const auto got = static_cast<double>(Result::get<float>(r.lse, place));
    CHECK(got == lse || std::fabs(got - lse) <= 1e-4 * (1 + std::fabs(lse)));
    std::vector<double> ranked;
    for (double value : row) {
        if (value >= 0) ranked.push_back(value);
    }
    std::sort(ranked.rbegin(), ranked.rend());
    const int64_t keep = cpu::value_count(p.value_keep, static_cast<int64_t>(ranked.size()));
    const double last = keep > 0 ? ranked[static_cast<size_t>(keep - 1)] : 0.0;
    for (int64_t d = 0; d < s.value_width; ++d) {
        double sum = 0.0, doubt = 0.0, size = 0.0;
        for (int64_t j = 0; j < s.keys; ++j) {
            const double weight = row[static_cast<size_t>(j)], value = p.v.at(b, h / s.group, j, d);
            if (weight < last * (1 - 1e-4)) continue;
            size += weight * std::fabs(value);
            // Rows as probable as the last one kept may have been taken or not.
            if (weight > last * (1 + 1e-4) || keep == static_cast<int64_t>(ranked.size())) {
                sum += weight * value;
            } else {
                doubt += weight * std::fabs(value);
            }
        }
        const float out = core::load_float(r.out.bytes.data(), place * s.value_width + d, p.dtype);
        CHECK(std::fabs(static_cast<double>(out) - sum) <= doubt * 1.01 + size * tolerance + 1e-6);
        if (p.counts(b, i)) expected.head_units += std::llrint(std::fabs(static_cast<double>(out)) * cpu::kScoreOne);
    }
    for (int64_t j = 0; j < s.keys && p.counts(b, i); ++j) {
        if (row[static_cast<size_t>(j)] < 0) continue;
        expected.terms[static_cast<size_t>(j)] += row[static_cast<size_t>(j)];
        expected.counted[static_cast<size_t>(j)] += 1;
    }
}

inline void compare(const Problem& p, const Result& r) {
    const Shape& s = p.shape;
    for (int64_t b = 0; b < s.batch; ++b) {
        for (int64_t h = 0; h < s.heads(); ++h) {
            const auto keys = static_cast<size_t>(s.keys);
            Expected expected{std::vector<double>(keys), std::vector<double>(keys)};
            for (int64_t i = 0; i < s.queries; ++i) compare_query(p, r, b, h, i, expected);
            const int64_t head = b * s.heads() + h;
            CHECK(Result::get<int64_t>(r.heads, head) == expected.head_units);
            int64_t seen = 0;
            for (size_t j = 0; j < keys; ++j) {
                const auto units = static_cast<double>(Result::get<int64_t>(r.tokens, head * s.keys + static_cast<int64_t>(j)));
                const double exact = expected.terms[j] * cpu::kScoreOne;
                CHECK(std::fabs(units - exact) <= expected.counted[j] * 0.51 + exact * 1e-4);
                seen += expected.counted[j] > 0;
            }
            const int32_t used = Result::get<int32_t>(r.used, head);
            CHECK(p.value_keep == 1.0 ? used == seen : used <= seen && (used > 0) == (seen > 0));
        }
    }
}

}  // namespace prefill
