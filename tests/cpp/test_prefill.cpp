#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/isa.h"
#include "cpu/attention/prefill.h"
#include "cpu/attention/scores.h"
#include "harness.h"
#include "weights.h"

using namespace sparsecore;
using namespace weights;
using core::make_span;

namespace {

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

    bool sees(int64_t b, int64_t h, int64_t i, int64_t j) const {
        if (causal && j > i + shape.keys - shape.queries) return false;
        const int64_t row = mask_per_query ? (b * shape.heads() + h) * shape.queries + i : b;
        return !has_mask || mask.bytes[static_cast<size_t>(row * shape.keys + j)] != 0;
    }
    bool counts(int64_t b, int64_t i) const {
        return !has_counted || counted.bytes[static_cast<size_t>(b * shape.queries + i)] != 0;
    }
};

Problem random_problem() {
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

Result run(Problem& p, int threads) {
    const Shape& s = p.shape;
    const int64_t rows = s.batch * s.heads();
    Result r{Memory(rows * s.queries * s.value_width * itemsize(p.dtype)), Memory(rows * s.queries * 4),
             Memory(rows * s.keys * 8), Memory(rows * 8), Memory(rows * 4)};
    Span mask = make_span(p.mask.data(), DType::U8, {s.batch, s.heads(), s.queries, s.keys});
    if (!p.mask_per_query) {
        mask.bytes = s.batch * s.keys;
        mask.strides[0] = s.keys, mask.strides[1] = mask.strides[2] = 0;
    }
    const Span counted = make_span(p.counted.data(), DType::U8, {s.batch, s.queries});
    const Span out = make_span(r.out.data(), p.dtype, {s.batch, s.heads(), s.queries, s.value_width});
    const Span lse = make_span(r.lse.data(), DType::F32, {s.batch, s.heads(), s.queries});
    const Span tokens = make_span(r.tokens.data(), DType::I64, {s.batch, s.heads(), s.keys});
    const Span heads = make_span(r.heads.data(), DType::I64, {s.batch, s.heads()});
    const Span used = make_span(r.used.data(), DType::I32, {s.batch, s.heads()});
    cpu::scored_attention({p.q.span, p.k.span, p.v.span, p.has_mask ? &mask : nullptr, p.has_counted ? &counted : nullptr,
                           p.causal, p.scale, p.value_keep},
                          {out, lse, &tokens, &heads, used}, threads);
    return r;
}

// Probabilities of one query in float64; -1 for a key that it does not see.
std::vector<double> probabilities(const Problem& p, int64_t b, int64_t h, int64_t i, double* lse) {
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

void compare_query(const Problem& p, const Result& r, int64_t b, int64_t h, int64_t i, Expected& expected) {
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

void compare(const Problem& p, const Result& r) {
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

}  // namespace

TEST(prefill_agrees_with_float64) {
    for (int round = 0; round < 40; ++round) {
        Problem p = random_problem();
        for (core::Isa isa : core::available_isas()) {
            core::set_isa(core::isa_name(isa));
            const Result r = run(p, 1);
            compare(p, r);
            CHECK(r == run(p, 2));
            CHECK(r == run(p, 5));
        }
        core::set_isa("auto");
    }
}

TEST(prefill_keeps_unseen_values_and_nan_apart) {
    for (core::Isa isa : core::available_isas()) {
        core::set_isa(core::isa_name(isa));
        Problem p = random_problem();
        p.shape = {1, 1, 1, 20, 70, 8, 4};
        p.dtype = harness::pick<DType>({DType::F32, DType::BF16});
        p.q = Tensor(1, 1, 20, 8, p.dtype, 1.0f), p.k = Tensor(1, 1, 70, 8, p.dtype, 1.0f);
        p.v = Tensor(1, 1, 70, 4, p.dtype, 1.0f);
        p.has_mask = true, p.mask_per_query = p.has_counted = p.causal = false;
        p.scale = 0.3f, p.value_keep = 1.0;
        p.mask = Memory(70);
        std::fill(p.mask.bytes.begin(), p.mask.bytes.end(), uint8_t{1});
        p.mask.bytes[66] = 0;
        core::store_float(p.v.span.data, p.v.place(0, 0, 66, 1), p.dtype, NAN);
        core::store_float(p.k.span.data, p.k.place(0, 0, 66, 1), p.dtype, INFINITY);
        core::store_float(p.v.span.data, p.v.place(0, 0, 3, 2), p.dtype, INFINITY);
        core::store_float(p.q.span.data, p.q.place(0, 0, 5, 0), p.dtype, NAN);
        const Result r = run(p, 1);
        for (int64_t i = 0; i < 20; ++i) {
            for (int64_t d = 0; d < 4; ++d) {
                const float out = core::load_float(r.out.bytes.data(), i * 4 + d, p.dtype);
                CHECK(i == 5 ? std::isnan(out) : d == 2 ? out == INFINITY : std::isfinite(out));
            }
        }
        core::set_isa("auto");
    }
}

TEST(prefill_adds_more_rows_than_a_sum_of_32_bits_holds) {
    for (core::Isa isa : core::available_isas()) {
        core::set_isa(core::isa_name(isa));
        Problem p = random_problem();
        p.shape = {1, 1, 1, 4100, 1, 1, 1};
        p.q = Tensor(1, 1, 4100, 1, p.dtype, 1.0f), p.k = Tensor(1, 1, 1, 1, p.dtype, 1.0f);
        p.v = Tensor(1, 1, 1, 1, p.dtype, 1.0f);
        p.has_mask = p.has_counted = p.causal = false;
        CHECK(Result::get<int64_t>(run(p, 1).tokens, 0) == int64_t{4100} << cpu::kScoreBits);
        core::set_isa("auto");
    }
}

TEST(prefill_checks_its_arguments) {
    Memory q(2 * 2 * 8 * 4), k(3 * 8 * 4), v(3 * 8 * 4), mask(2 * 2 * 3), out(2 * 2 * 8 * 4), lse(16), tokens(48), heads(16);
    Memory used(8);
    const Span qs = make_span(q.data(), DType::F32, {1, 2, 2, 8}), ks = make_span(k.data(), DType::F32, {1, 1, 3, 8});
    const Span vs = make_span(v.data(), DType::F32, {1, 1, 3, 8}), ms = make_span(mask.data(), DType::U8, {1, 2, 2, 3});
    const Span os = make_span(out.data(), DType::F32, {1, 2, 2, 8}), ls = make_span(lse.data(), DType::F32, {1, 2, 2});
    const Span ts = make_span(tokens.data(), DType::I64, {1, 2, 3}), hs = make_span(heads.data(), DType::I64, {1, 2});
    const Span us = make_span(used.data(), DType::I32, {1, 2});
    const auto call = [&](const Span& keys, const Span* seen, double keep, const Span& result, const Span* sums) {
        cpu::scored_attention({qs, keys, vs, seen, nullptr, false, 1.0f, keep}, {result, ls, sums, &hs, us}, 1);
    };
    call(ks, &ms, 1.0, os, &ts);
    CHECK_ERROR("ShapeError", call(make_span(k.data(), DType::F32, {1, 1, 3, 7}), nullptr, 1.0, os, &ts));
    CHECK_ERROR("ShapeError", call(make_span(k.data(), DType::F32, {1, 0, 3, 8}), nullptr, 1.0, os, &ts));
    CHECK_ERROR("ShapeError", call(make_span(k.data(), DType::F32, {1, 3, 1, 8}), nullptr, 1.0, os, &ts));
    CHECK_ERROR("DtypeError", call(make_span(k.data(), DType::F16, {1, 1, 3, 8}), nullptr, 1.0, os, &ts));
    Span spread = ks;
    spread.strides[2] = 1, spread.strides[3] = 3;
    CHECK_ERROR("ShapeError", call(spread, nullptr, 1.0, os, &ts));
    Span beyond = ks;
    beyond.strides[2] = 9;
    CHECK_ERROR("SpanError", call(beyond, nullptr, 1.0, os, &ts));
    const Span narrow = make_span(mask.data(), DType::U8, {1, 2, 2, 2});
    CHECK_ERROR("ShapeError", call(ks, &narrow, 1.0, os, &ts));
    for (double keep : {0.0, 1.5, std::nan("")}) CHECK_ERROR("InvalidValueError", call(ks, nullptr, keep, os, &ts));
    CHECK_ERROR("AliasingError", call(ks, nullptr, 1.0, qs, &ts));
    const Span floats = make_span(tokens.data(), DType::F32, {1, 2, 3});
    CHECK_ERROR("DtypeError", call(ks, nullptr, 1.0, os, &floats));
}
