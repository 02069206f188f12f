// Decode attention and its store without Python: every instruction set, AMX on the tile model, against doubles.
#include "cpu/attention/decode/decode.h"

#include <algorithm>
#include <cmath>

#include "core/isa.h"
#include "formats/bitplane.h"
#include "harness.h"
#include "weights.h"

using namespace sparsecore;
using namespace weights;

namespace {

struct Part {
    Memory memory = Memory();
    Span span = Span();
};

Part part(DType dtype, std::vector<int64_t> shape) {
    Part made;
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    made.memory = Memory(count * itemsize(dtype));
    made.span.dtype = dtype;
    made.span.ndim = static_cast<int>(shape.size());
    made.span.data = made.memory.data();
    made.span.bytes = count * itemsize(dtype);
    for (int d = made.span.ndim - 1, stride = 1; d >= 0; --d) {
        made.span.shape[d] = shape[static_cast<size_t>(d)];
        made.span.strides[d] = stride;
        stride *= static_cast<int>(std::max<int64_t>(1, made.span.shape[d]));
    }
    return made;
}

Part random_part(DType dtype, std::vector<int64_t> shape) {
    Part made = part(dtype, std::move(shape));
    for (int64_t i = 0; i < made.span.bytes / itemsize(dtype); ++i) set_value(made.memory.data(), i, dtype, harness::normal());
    return made;
}

Part integers(std::vector<int64_t> values) {
    Part made = part(DType::I64, {static_cast<int64_t>(values.size())});
    std::copy(values.begin(), values.end(), made.span.as<int64_t>());
    return made;
}

// Every tensor of a store of one sequence, filled with random tokens.
struct Store {
    int64_t heads, tokens, width, value_width;
    int msb_bits, value_bits;
    DType dtype;
    Part k, v;
    std::vector<Part> parts;
    cpu::DecodeStore spans;
};

Store empty_store(int64_t heads, int64_t slots, int64_t width, int64_t value_width, int msb_bits, int value_bits, DType dtype) {
    Store s{heads, slots, width, value_width, msb_bits, value_bits, dtype, {}, {}, {}, {}};
    s.spans.msb_bits = msb_bits;
    if (msb_bits == 0) {
        s.parts.push_back(part(dtype, {1, heads, slots, width}));
    } else {
        const formats::KeyPlanes planes = formats::key_planes(msb_bits, width);
        for (int i = 0; i < planes.count; ++i) s.parts.push_back(part(DType::U8, {1, heads, slots, planes.plane[i].bytes}));
        s.parts.push_back(part(DType::F32, {1, heads, slots}));
    }
    for (const Part& p : s.parts) s.spans.keys.push_back(p.span);
    s.parts.push_back(part(value_bits == 0 ? dtype : DType::I8, {1, heads, slots, value_width}));
    s.spans.values.push_back(s.parts.back().span);
    if (value_bits != 0) {
        s.parts.push_back(part(DType::F32, {1, heads, slots}));
        s.spans.values.push_back(s.parts.back().span);
    }
    return s;
}

Store random_store(int64_t tokens) {
    const DType dtype = random_float_type();
    Store s = empty_store(harness::integer(1, 2), tokens, harness::pick<int64_t>({1, 2, 31, 32, 33, 64, 65, 80, 128, 200}),
                          harness::pick<int64_t>({1, 16, 20, 64, 100, 128}), harness::pick<int>({0, 4, 6, 8, 10, 12}),
                          harness::pick<int>({0, 4, 8}), dtype);
    s.k = random_part(dtype, {1, s.heads, tokens, s.width});
    s.v = random_part(dtype, {1, s.heads, tokens, s.value_width});
    const Part start = integers({0});
    formats::kv_append(s.spans.keys, s.spans.values, s.k.span, s.v.span, start.span, s.msb_bits, s.value_bits, 2);
    return s;
}

// Integers of a row and their scale, as formats/bitplane.h defines them.
float quantise(const Part& from, int64_t row, int64_t width, int bits, std::vector<double>& out) {
    float largest = 0.0f;
    const auto at = [&](int64_t d) { return core::load_float(from.span.data, row * width + d, from.span.dtype); };
    for (int64_t d = 0; d < width; ++d) largest = std::max(largest, std::fabs(at(d)));
    const float scale = largest == 0.0f ? 1.0f : largest / static_cast<float>((1 << (bits - 1)) - 1);
    out.clear();
    for (int64_t d = 0; d < width; ++d) out.push_back(std::nearbyint(at(d) / scale));
    return scale;
}

std::vector<double> row_of(const Part& from, int64_t row, int64_t width, int bits, bool high) {
    std::vector<double> values;
    if (bits == 0) {
        for (int64_t d = 0; d < width; ++d) values.push_back(core::load_float(from.span.data, row * width + d, from.span.dtype));
        return values;
    }
    const double scale = quantise(from, row, width, bits, values);
    for (double& value : values) value = (high ? std::floor(value / 16) * 16 + 8 : value) * scale;
    return values;
}

struct Problem {
    Store store;
    int64_t heads = 0;
    Part q, starts, lengths, rows, counts, kept;
    bool selects = false, prunes = false;
    std::vector<int64_t> seen;
    cpu::DecodeRule rule;
};

Problem random_problem(int64_t tokens) {
    Problem p{random_store(tokens), 0, {}, {}, {}, {}, {}, {}, false, false, {}, {}};
    p.heads = p.store.heads * harness::pick<int64_t>({1, 2, 3, 4, 7, 18});
    p.q = random_part(p.store.dtype, {1, p.heads, 1, p.store.width});
    const int64_t first = harness::integer(0, tokens), count = harness::integer(0, tokens - first);
    p.starts = integers({first});
    p.lengths = integers({count});
    p.selects = harness::integer(0, 1) == 1;
    for (int64_t i = first; i < first + count; ++i) {
        if (!p.selects || harness::integer(0, 2) > 0) p.seen.push_back(i);
    }
    p.counts = integers({static_cast<int64_t>(p.seen.size())});
    p.rows = part(DType::I64, {1, static_cast<int64_t>(p.seen.size()) + 1});
    std::copy(p.seen.begin(), p.seen.end(), p.rows.span.as<int64_t>());
    p.rows.span.as<int64_t>()[p.seen.size()] = INT64_MIN;  // not looked at
    p.prunes = harness::integer(0, 1) == 1;
    p.kept = part(DType::U8, {1, p.heads});
    for (uint8_t& byte : p.kept.memory.bytes) byte = !p.prunes || harness::integer(0, 2) > 0 ? 1 : 0;
    p.rule.scale = 1.0f / std::sqrt(static_cast<float>(p.store.width));
    p.rule.threshold = harness::pick<float>({-1.0f, 0.05f, 0.3f, 2.0f});
    p.rule.value_keep = harness::pick<double>({1.0, 0.5, 0.1});
    p.rule.value_mass = harness::pick<float>({0.0f, 0.6f});
    p.rule.group_values = harness::integer(0, 1) == 1;
    return p;
}

struct Result {
    Part out, lse, tokens, heads, low, used;
};

Result run(const Problem& p, int threads) {
    const int64_t slots = p.selects ? static_cast<int64_t>(p.seen.size()) + 1 : p.store.tokens;
    Result r{part(p.store.dtype, {1, p.heads, 1, p.store.value_width}), part(DType::F32, {1, p.heads, 1}),
             part(DType::I64, {1, p.heads, slots}), part(DType::I64, {1, p.heads}), part(DType::U8, {1, p.heads}),
             part(DType::I32, {1, p.heads})};
    cpu::decode_attention(p.q.span, p.store.spans,
                          {&p.starts.span, &p.lengths.span, p.selects ? &p.rows.span : nullptr,
                           p.selects ? &p.counts.span : nullptr, p.prunes ? &p.kept.span : nullptr, p.store.tokens},
                          p.rule, {&r.out.span, &r.lse.span, &r.tokens.span, &r.heads.span, &r.low.span, &r.used.span},
                          threads);
    return r;
}

std::vector<double> probabilities(const Problem& p, int64_t head, bool high) {
    const int64_t kv = head / (p.heads / p.store.heads);
    const int key_bits = p.store.msb_bits == 0 ? 0 : p.store.msb_bits + 4;
    const std::vector<double> q = row_of(p.q, head, p.store.width, key_bits == 0 ? 0 : 15, false);
    std::vector<double> row;
    double total = 0.0, largest = -INFINITY;
    for (int64_t slot : p.seen) {
        const std::vector<double> k = row_of(p.store.k, kv * p.store.tokens + slot, p.store.width, key_bits, high);
        double score = 0.0;
        for (size_t d = 0; d < q.size(); ++d) score += q[d] * k[d];
        row.push_back(score * p.rule.scale);
        largest = std::max(largest, row.back());
    }
    for (double& value : row) total += value = std::exp(value - largest);
    for (double& value : row) value /= total;
    return row;
}

// Out and scores of a head whose V rows are all used.
void check_head(const Problem& p, const Result& r, int64_t head) {
    const bool low = r.low.memory.bytes[static_cast<size_t>(head)] != 0, planes = p.store.msb_bits != 0;
    std::vector<double> row = probabilities(p, head, planes);
    const double largest = row.empty() ? 2.0 : *std::max_element(row.begin(), row.end());
    CHECK(low == (planes && largest < p.rule.threshold) || std::fabs(largest - p.rule.threshold) < 1e-4);
    if (low) row = probabilities(p, head, false);
    const auto* scores = r.tokens.span.as<int64_t>() + head * r.tokens.span.shape[2];
    for (size_t i = 0; i < row.size(); ++i) {
        const double unit = std::nearbyint(row[i] * 1048576.0);
        CHECK(std::fabs(static_cast<double>(scores[p.selects ? static_cast<int64_t>(i) : p.seen[i]]) - unit) <= 16.0);
    }
    const int64_t used = r.used.span.as<int32_t>()[head], count = static_cast<int64_t>(row.size());
    CHECK(used == count || used == std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(count) * p.rule.value_keep)));
    if (used != count) return;
    const int64_t kv = head / (p.heads / p.store.heads);
    const double step = p.store.dtype == DType::F32 ? 0x1p-20 : p.store.dtype == DType::F16 ? 0x1p-10 : 0x1p-7;
    std::vector<double> sum(static_cast<size_t>(p.store.value_width), 0.0);
    for (size_t i = 0; i < row.size(); ++i) {
        const auto v = row_of(p.store.v, kv * p.store.tokens + p.seen[i], p.store.value_width, p.store.value_bits, false);
        for (size_t d = 0; d < v.size(); ++d) sum[d] += row[i] * v[d];
    }
    for (size_t d = 0; d < sum.size(); ++d) {
        const auto at = head * p.store.value_width + static_cast<int64_t>(d);
        const double got = core::load_float(r.out.span.data, at, p.store.dtype);
        CHECK(std::fabs(got - sum[d]) <= step * std::fabs(sum[d]) + 3e-3);
    }
}

bool is_zero(const Part& part, int64_t head, int64_t per_head) {
    const int64_t bytes = per_head * itemsize(part.span.dtype);
    const auto* first = part.memory.bytes.data() + head * bytes;
    return std::all_of(first, first + bytes, [](uint8_t byte) { return byte == 0; });
}

void compare(const Problem& p, const Result& r) {
    for (int64_t head = 0; head < p.heads; ++head) {
        if (!p.seen.empty() && p.kept.memory.bytes[static_cast<size_t>(head)] != 0) {
            check_head(p, r, head);
            continue;
        }
        CHECK(is_zero(r.out, head, p.store.value_width) && is_zero(r.tokens, head, r.tokens.span.shape[2]));
        CHECK(is_zero(r.heads, head, 1) && is_zero(r.low, head, 1) && is_zero(r.used, head, 1));
        CHECK(r.lse.span.as<float>()[head] == -INFINITY);
    }
}

bool equal(const Result& a, const Result& b) {
    return a.out.memory.bytes == b.out.memory.bytes && a.lse.memory.bytes == b.lse.memory.bytes &&
           a.tokens.memory.bytes == b.tokens.memory.bytes && a.heads.memory.bytes == b.heads.memory.bytes &&
           a.low.memory.bytes == b.low.memory.bytes && a.used.memory.bytes == b.used.memory.bytes;
}

}  // namespace

TEST(decode_attention_equals_the_double_reference_on_every_isa) {
    for (int round = 0; round < 60; ++round) {
        const Problem p = random_problem(harness::pick<int64_t>({1, 2, 15, 16, 17, 63, 64, 65, 130}));
        for (core::Isa isa : core::available_isas()) {
            core::set_isa(core::isa_name(isa));
            const Result r = run(p, 1);
            compare(p, r);
            CHECK(equal(r, run(p, 3)));
        }
        core::set_isa("auto");
    }
}

TEST(decode_attention_shares_long_contexts_among_threads) {
    for (int round = 0; round < 3; ++round) {
        const Problem p = random_problem(3000);
        for (core::Isa isa : core::available_isas()) {
            core::set_isa(core::isa_name(isa));
            const Result r = run(p, 1);
            for (int threads : {2, 3, 7}) CHECK(equal(r, run(p, threads)));
        }
        core::set_isa("auto");
    }
}

TEST(decode_attention_checks_its_arguments) {
    Problem p = random_problem(20);
    p.selects = p.prunes = false;
    p.starts = integers({0});
    p.lengths = integers({20});
    run(p, 1);
    const auto broken = [&](auto&& change) {
        Problem changed = p;
        change(changed);
        return changed;
    };
    CHECK_ERROR("IndexTableError", run(broken([](Problem& x) { x.starts = integers({1}); }), 1));
    CHECK_ERROR("IndexTableError", run(broken([](Problem& x) { x.starts = integers({-1}); }), 1));
    CHECK_ERROR("IndexTableError", run(broken([](Problem& x) { x.lengths = integers({INT64_MAX}); }), 1));
    CHECK_ERROR("ShapeError", run(broken([](Problem& x) { x.q = random_part(x.store.dtype, {1, x.heads, 1, x.store.width + 1}); }), 1));
    CHECK_ERROR("ShapeError", run(broken([](Problem& x) { x.q = random_part(x.store.dtype, {2, x.heads, 1, x.store.width}); }), 1));
    CHECK_ERROR("ShapeError", run(broken([](Problem& x) { x.store.spans.keys.push_back(x.store.spans.keys[0]); }), 1));
    CHECK_ERROR("ShapeError", run(broken([](Problem& x) { x.store.spans.values.clear(); }), 1));
    CHECK_ERROR("SpanError", run(broken([](Problem& x) { x.store.spans.values[0].bytes -= 1; }), 1));
    CHECK_ERROR("SpanError", run(broken([](Problem& x) { x.store.spans.keys[0].bytes -= 1; }), 1));
    CHECK_ERROR("InvalidValueError", run(broken([](Problem& x) { x.store.tokens = 21; }), 1));
    CHECK_ERROR("InvalidValueError", run(broken([](Problem& x) { x.rule.value_keep = 0.0; }), 1));
    CHECK_ERROR("InvalidValueError", run(broken([](Problem& x) { x.rule.scale = INFINITY; }), 1));
    CHECK_ERROR("InvalidValueError", run(p, 0));
    for (const std::vector<int64_t>& rows : std::vector<std::vector<int64_t>>{{3, 3}, {4, 3}, {-1, 2}, {5, 20}, {5, INT64_MAX}}) {
        CHECK_ERROR("IndexTableError", run(broken([&](Problem& x) {
                        x.selects = true;
                        x.seen = {0, 1};
                        x.counts = integers({2});
                        x.rows = part(DType::I64, {1, 3});
                        std::copy(rows.begin(), rows.end(), x.rows.span.as<int64_t>());
                    }), 1));
    }
}

TEST(kv_append_checks_its_arguments) {
    Store s = empty_store(2, 5, 8, 8, 8, 8, DType::F32);
    const Part k = random_part(DType::F32, {1, 2, 3, 8}), zero = integers({0});
    const auto append = [&](const Part& at, int msb_bits, int value_bits, const Span& keys, const Span& values) {
        formats::kv_append(s.spans.keys, s.spans.values, keys, values, at.span, msb_bits, value_bits, 1);
    };
    append(zero, 8, 8, k.span, k.span);
    append(integers({2}), 8, 8, k.span, k.span);
    for (int64_t slot : {int64_t{3}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
        CHECK_ERROR("IndexTableError", append(integers({slot}), 8, 8, k.span, k.span));
    }
    CHECK_ERROR("InvalidValueError", append(zero, 5, 8, k.span, k.span));
    CHECK_ERROR("InvalidValueError", append(zero, 8, 3, k.span, k.span));
    CHECK_ERROR("ShapeError", append(zero, 12, 8, k.span, k.span));
    CHECK_ERROR("ShapeError", append(zero, 8, 0, k.span, k.span));
    CHECK_ERROR("ShapeError", append(zero, 8, 8, random_part(DType::F32, {1, 2, 3, 9}).span, k.span));
    CHECK_ERROR("ShapeError", append(zero, 8, 8, random_part(DType::F32, {1, 1, 3, 8}).span, k.span));
    CHECK_ERROR("DtypeError", append(zero, 8, 8, part(DType::I32, {1, 2, 3, 8}).span, k.span));
    Span lying = k.span;
    lying.bytes -= 4;
    CHECK_ERROR("SpanError", append(zero, 8, 8, lying, k.span));
    s.spans.keys[1] = s.spans.keys[0];
    CHECK_ERROR("ShapeError", append(zero, 8, 8, k.span, k.span));
}

TEST(kv_compact_moves_rows_in_place_and_checks_them) {
    for (int round = 0; round < 20; ++round) {
        Store s = random_store(harness::integer(1, 40));
        const Store before = s;
        std::vector<int64_t> keep;
        for (int64_t i = 0; i < s.tokens; ++i) {
            if (harness::integer(0, 1) == 1) keep.push_back(i);
        }
        Part index = integers(keep), counts = integers({static_cast<int64_t>(keep.size())});
        index.span.ndim = 2;
        index.span.shape[1] = index.span.shape[0], index.span.shape[0] = 1;
        index.span.strides[1] = 1, index.span.strides[0] = static_cast<int64_t>(keep.size());
        std::vector<Span> spans;
        for (Part& p : s.parts) {
            p.span.data = p.memory.data();
            spans.push_back(p.span);
        }
        formats::kv_compact(spans, index.span, counts.span, 2);
        for (size_t i = 0; i < s.parts.size(); ++i) {
            const int64_t bytes = s.parts[i].span.bytes / s.heads / s.tokens;
            for (int64_t head = 0; head < s.heads; ++head) {
                for (size_t to = 0; to < keep.size(); ++to) {
                    const auto row = [&](const Store& store, int64_t slot) {
                        return store.parts[i].memory.bytes.data() + (head * s.tokens + slot) * bytes;
                    };
                    const uint8_t* moved = row(s, static_cast<int64_t>(to));
                    CHECK(std::equal(moved, moved + bytes, row(before, keep[to])));
                }
            }
        }
        if (keep.empty()) continue;
        index.span.as<int64_t>()[keep.size() - 1] = s.tokens;
        CHECK_ERROR("IndexTableError", formats::kv_compact(spans, index.span, counts.span, 1));
        index.span.as<int64_t>()[keep.size() - 1] = -1;
        CHECK_ERROR("IndexTableError", formats::kv_compact(spans, index.span, counts.span, 1));
        counts.span.as<int64_t>()[0] += 1;
        CHECK_ERROR("IndexTableError", formats::kv_compact(spans, index.span, counts.span, 1));
    }
}
