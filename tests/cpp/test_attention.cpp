#include "cpu/attention/attention.h"

#include <algorithm>
#include <cmath>

#include "core/isa.h"
#include "harness.h"
#include "weights.h"

using namespace sparsecore;
using namespace weights;

namespace {

struct Tensor {
    Memory memory;
    Span span;
    double at(int64_t h, int64_t t, int64_t d) const {
        return core::load_float(span.data, h * span.strides[1] + t * span.strides[2] + d * span.strides[3], span.dtype);
    }
};

// [1, heads, tokens, width], laid out like that, as [tokens, heads, width] or with columns apart.
Tensor random_tensor(int64_t heads, int64_t tokens, int64_t width, DType dtype, float size) {
    Tensor t{Memory(heads * tokens * width * itemsize(dtype)), {}};
    for (int64_t i = 0; i < heads * tokens * width; ++i) set_value(t.memory.data(), i, dtype, harness::normal() * size);
    t.span = make_span(t.memory.data(), dtype, {1, heads, tokens, width});
    const int64_t style = harness::integer(0, 2);
    if (style == 1) t.span.strides[1] = width, t.span.strides[2] = heads * width;
    if (style == 2) t.span.strides[2] = 1, t.span.strides[3] = tokens;
    return t;
}

struct Problem {
    int64_t heads = 0, queries = 0, keys = 0, width = 0, value_width = 0;
    Tensor q, k, v;
    Memory mask;
    bool has_mask = false, mask_per_query = false;
    cpu::AttentionBits bits{};
    bool attends(int64_t query, int64_t key) const {
        return !has_mask || mask.bytes[static_cast<size_t>((mask_per_query ? query * keys : 0) + key)] != 0;
    }
};

Problem random_problem() {
    Problem p;
    p.heads = harness::integer(1, 2);
    p.queries = harness::pick<int64_t>({0, 1, 2, 5, 17, 33, 40});
    p.keys = harness::pick<int64_t>({0, 1, 3, 16, 17, 50, 64, 65, 130});
    p.width = harness::pick<int64_t>({1, 2, 3, 31, 32, 64, 80, 128});
    p.value_width = harness::pick<int64_t>({0, 1, 20, 32, 64, 100, 128});
    const DType dtype = random_float_type();
    p.q = random_tensor(p.heads, p.queries, p.width, dtype, 1.0f);
    p.k = random_tensor(p.heads, p.keys, p.width, dtype, harness::pick<float>({0.1f, 1.0f, 3.0f}));
    p.v = random_tensor(p.heads, p.keys, p.value_width, dtype, 1.0f);
    p.has_mask = harness::integer(0, 1) == 1;
    p.mask_per_query = harness::integer(0, 1) == 1;
    p.mask = Memory(p.keys * (p.mask_per_query ? p.queries : 1));
    const int64_t one_in = harness::pick<int64_t>({2, 10});
    for (uint8_t& byte : p.mask.bytes) byte = harness::integer(1, one_in) == 1 ? 0 : 1;
    if (harness::integer(0, 5) == 0) std::fill(p.mask.bytes.begin(), p.mask.bytes.end(), uint8_t{0});
    const int msb = harness::pick<int>({2, 4, 8, 10});
    p.bits = {1.0f / std::sqrt(static_cast<float>(p.width)), msb, harness::pick<int>({0, 1, 4, 6}),
              harness::pick<float>({0.0f, 0.05f, 0.1f, 0.5f, 2.0f})};
    return p;
}

struct Result {
    Memory out, sums, needs;
};

Result run(Problem& p, int threads) {
    const DType dtype = p.q.span.dtype;
    Result r{Memory(p.heads * p.queries * p.value_width * itemsize(dtype)), Memory(p.heads * p.keys * 4),
             Memory(p.heads * p.queries)};
    const Span mask = make_span(p.mask.data(), DType::U8, {1, 1, p.mask_per_query ? p.queries : 1, p.keys});
    cpu::bitplane_attention(p.q.span, p.k.span, p.v.span, p.has_mask ? &mask : nullptr, p.bits,
                            make_span(r.out.data(), dtype, {1, p.heads, p.queries, p.value_width}),
                            make_span(r.sums.data(), DType::F32, {1, p.heads, p.keys}),
                            make_span(r.needs.data(), DType::U8, {1, p.heads, p.queries}), threads);
    return r;
}

// The integers of one token and their scale, as attention.h defines them.
float quantise(const Tensor& t, int64_t head, int64_t token, int64_t width, int bits, std::vector<int64_t>& out) {
    float largest = 0.0f;
    for (int64_t d = 0; d < width; ++d) largest = std::max(largest, std::fabs(static_cast<float>(t.at(head, token, d))));
    const float scale = largest == 0.0f ? 1.0f : largest / static_cast<float>((1 << (bits - 1)) - 1);
    out.clear();
    for (int64_t d = 0; d < width; ++d) {
        out.push_back(static_cast<int64_t>(std::nearbyint(static_cast<float>(t.at(head, token, d)) / scale)));
    }
    return scale;
}

// Probabilities of one query with the high bits or whole keys, in double; empty if it attends to nothing.
std::vector<double> probabilities(const Problem& p, int64_t head, int64_t query, bool whole) {
    const int bits = p.bits.msb_bits + p.bits.lsb_bits, lsb = p.bits.lsb_bits;
    std::vector<int64_t> q, k;
    const double q_scale = quantise(p.q, head, query, p.width, bits, q);
    std::vector<double> row(static_cast<size_t>(p.keys), 0.0);
    double largest = -INFINITY, total = 0.0;
    for (int64_t j = 0; j < p.keys; ++j) {
        const double k_scale = quantise(p.k, head, j, p.width, bits, k);
        int64_t sum = 0;
        for (size_t d = 0; d < q.size(); ++d) {
            const int64_t high = lsb == 0 ? k[d] : (k[d] >> lsb) * (1 << lsb) + (1 << (lsb - 1));
            sum += q[d] * (whole ? k[d] : high);
        }
        row[static_cast<size_t>(j)] = static_cast<double>(sum) * q_scale * k_scale * p.bits.scale;
        if (p.attends(query, j)) largest = std::max(largest, row[static_cast<size_t>(j)]);
    }
    if (largest == -INFINITY) return {};
    for (int64_t j = 0; j < p.keys; ++j) {
        double& value = row[static_cast<size_t>(j)];
        value = p.attends(query, j) ? std::exp(value - largest) : 0.0;
        total += value;
    }
    for (double& value : row) value /= total;
    return row;
}

void check_query(const Problem& p, const Result& r, int64_t head, int64_t query, std::vector<double>& sums) {
    std::vector<double> row = probabilities(p, head, query, false);
    const bool needs = r.needs.bytes[static_cast<size_t>(head * p.queries + query)] != 0;
    const double largest = row.empty() ? 2.0 : *std::max_element(row.begin(), row.end());
    const bool expected = p.bits.lsb_bits > 0 && !row.empty() && largest < p.bits.threshold;
    // At the threshold itself fp32 may fall either way.
    CHECK(needs == expected || std::fabs(largest - p.bits.threshold) < 1e-4);
    if (needs) row = probabilities(p, head, query, true);
    const DType dtype = p.q.span.dtype;
    const double step = dtype == DType::F32 ? 0x1p-22 : dtype == DType::F16 ? 0x1p-10 : 0x1p-7;
    for (int64_t d = 0; d < p.value_width; ++d) {
        double sum = 0.0;
        for (size_t j = 0; j < row.size(); ++j) sum += row[j] * p.v.at(head, static_cast<int64_t>(j), d);
        const float got = core::load_float(r.out.bytes.data(), (head * p.queries + query) * p.value_width + d, dtype);
        CHECK(std::fabs(got - sum) <= step * std::fabs(sum) + 2e-4);
    }
    for (size_t j = 0; j < row.size(); ++j) sums[j] += row[j];
}

void compare(const Problem& p, const Result& r) {
    for (int64_t head = 0; head < p.heads; ++head) {
        std::vector<double> sums(static_cast<size_t>(p.keys), 0.0);
        for (int64_t query = 0; query < p.queries; ++query) check_query(p, r, head, query, sums);
        for (int64_t j = 0; j < p.keys; ++j) {
            const float got = core::load_float(r.sums.bytes.data(), head * p.keys + j, DType::F32);
            CHECK(std::fabs(got - sums[static_cast<size_t>(j)]) <= 1e-4 * (1.0 + static_cast<double>(p.queries)));
        }
    }
}

}  // namespace

TEST(attention_equals_the_double_reference_on_every_isa) {
    for (int round = 0; round < 60; ++round) {
        Problem p = random_problem();
        for (core::Isa isa : core::available_isas()) {
            core::set_isa(core::isa_name(isa));
            const Result r = run(p, 1), parallel = run(p, 3);
            compare(p, r);
            CHECK(r.out.bytes == parallel.out.bytes && r.sums.bytes == parallel.sums.bytes);
            CHECK(r.needs.bytes == parallel.needs.bytes);
        }
        core::set_isa("auto");
    }
}

TEST(attention_of_sixteen_bits_is_exact) {
    Problem p = random_problem();
    p.bits.msb_bits = 12;
    p.bits.lsb_bits = 4;
    compare(p, run(p, 1));
}

TEST(attention_keeps_nan_to_its_own_queries_and_unmasked_keys) {
    for (core::Isa isa : core::available_isas()) {
        core::set_isa(core::isa_name(isa));
        Problem p = random_problem();
        p.heads = 1, p.queries = 3, p.keys = 20, p.width = 8, p.value_width = 4;
        p.q = random_tensor(1, 3, 8, DType::F32, 1.0f);
        p.k = random_tensor(1, 20, 8, DType::F32, 1.0f);
        p.v = random_tensor(1, 20, 4, DType::F32, 1.0f);
        p.has_mask = true, p.mask_per_query = false;
        p.mask = Memory(20);
        std::fill(p.mask.bytes.begin(), p.mask.bytes.end(), uint8_t{1});
        p.mask.bytes[7] = 0;
        p.k.span.as<float>()[7 * p.k.span.strides[2]] = NAN;
        p.q.span.as<float>()[p.q.span.strides[2]] = INFINITY;
        const Result r = run(p, 1);
        const auto* out = reinterpret_cast<const float*>(r.out.bytes.data());
        const auto* sums = reinterpret_cast<const float*>(r.sums.bytes.data());
        for (int64_t i = 0; i < 12; ++i) CHECK(std::isnan(out[i]) == (i / 4 == 1));
        for (int64_t j = 0; j < 20; ++j) CHECK(j == 7 ? sums[j] == 0.0f : std::isnan(sums[j]));
        core::set_isa("auto");
    }
}

TEST(attention_checks_its_arguments) {
    Memory q(2 * 8 * 4), k(3 * 8 * 4), v(3 * 8 * 4), out(2 * 8 * 4), sums(3 * 4), needs(2), mask(3);
    const Span qs = make_span(q.data(), DType::F32, {1, 1, 2, 8}), ks = make_span(k.data(), DType::F32, {1, 1, 3, 8});
    const Span vs = make_span(v.data(), DType::F32, {1, 1, 3, 8}), os = make_span(out.data(), DType::F32, {1, 1, 2, 8});
    const Span ss = make_span(sums.data(), DType::F32, {1, 1, 3}), ns = make_span(needs.data(), DType::U8, {1, 1, 2});
    const cpu::AttentionBits bits{1.0f, 8, 4, 0.1f};
    cpu::bitplane_attention(qs, ks, vs, nullptr, bits, os, ss, ns, 1);
    CHECK_ERROR("InvalidValueError", cpu::bitplane_attention(qs, ks, vs, nullptr, {1.0f, 1, 4, 0.1f}, os, ss, ns, 1));
    CHECK_ERROR("InvalidValueError", cpu::bitplane_attention(qs, ks, vs, nullptr, {1.0f, 13, 4, 0.1f}, os, ss, ns, 1));
    CHECK_ERROR("ShapeError", cpu::bitplane_attention(qs, make_span(k.data(), DType::F32, {1, 1, 3, 7}), vs, nullptr,
                                                      bits, os, ss, ns, 1));
    CHECK_ERROR("ShapeError", cpu::bitplane_attention(qs, ks, make_span(v.data(), DType::F32, {1, 1, 2, 8}), nullptr,
                                                      bits, os, ss, ns, 1));
    const Span short_mask = make_span(mask.data(), DType::U8, {1, 1, 1, 2});
    CHECK_ERROR("ShapeError", cpu::bitplane_attention(qs, ks, vs, &short_mask, bits, os, ss, ns, 1));
    CHECK_ERROR("AliasingError", cpu::bitplane_attention(qs, ks, vs, nullptr, bits, qs, ss, ns, 1));
    CHECK_ERROR("DtypeError", cpu::bitplane_attention(qs, ks, vs, nullptr, bits, os, ss,
                                                      make_span(needs.data(), DType::I8, {1, 1, 2}), 1));
}
