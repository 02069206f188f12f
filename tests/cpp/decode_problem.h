// Random problems of decode attention, and what their results are compared with: the definition of
// cpu/attention/decode/decode.h in doubles.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "cpu/attention/decode/decode.h"
#include "formats/bitplane.h"
#include "harness.h"
#include "weights.h"

namespace decode_problem {

using namespace sparsecore;
using namespace weights;

struct Part {
    Memory memory = Memory();
    Span span = Span();
};

inline Part part(DType dtype, std::vector<int64_t> shape) {
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

inline Part random_part(DType dtype, std::vector<int64_t> shape) {
    Part made = part(dtype, std::move(shape));
    for (int64_t i = 0; i < made.span.bytes / itemsize(dtype); ++i) set_value(made.memory.data(), i, dtype, harness::normal());
    return made;
}

inline Part integers(std::vector<int64_t> values) {
    Part made = part(DType::I64, {static_cast<int64_t>(values.size())});
    std::copy(values.begin(), values.end(), made.span.as<int64_t>());
    return made;
}

// Every tensor of a store, and the tokens that are in it.
struct Store {
    int64_t batch, heads, tokens, width, value_width;
    int msb_bits, value_bits;
    DType dtype;
    Part k, v;
    std::vector<Part> parts;
    cpu::DecodeStore spans;
};

inline Store empty_store(int64_t batch, int64_t heads, int64_t slots, int64_t width, int64_t value_width, int msb_bits,
                         int value_bits, DType dtype) {
    Store s{batch, heads, slots, width, value_width, msb_bits, value_bits, dtype, {}, {}, {}, {}};
    s.spans.msb_bits = msb_bits;
    if (msb_bits == 0) {
        s.parts.push_back(part(dtype, {batch, heads, slots, width}));
    } else {
        const formats::KeyPlanes planes = formats::key_planes(msb_bits, width);
        for (int i = 0; i < planes.count; ++i) s.parts.push_back(part(DType::U8, {batch, heads, slots, planes.plane[i].bytes}));
        s.parts.push_back(part(DType::F32, {batch, heads, slots}));
    }
    for (const Part& p : s.parts) s.spans.keys.push_back(p.span);
    s.parts.push_back(part(value_bits == 0 ? dtype : DType::I8, {batch, heads, slots, value_width}));
    s.spans.values.push_back(s.parts.back().span);
    if (value_bits != 0) {
        s.parts.push_back(part(DType::F32, {batch, heads, slots}));
        s.spans.values.push_back(s.parts.back().span);
    }
    return s;
}

inline Store random_store(int64_t batch, int64_t tokens, const std::vector<int64_t>& widths, const std::vector<int64_t>& value_widths) {
    const DType dtype = random_float_type();
    Store s = empty_store(batch, harness::integer(1, 2), tokens, harness::pick<int64_t>(widths), harness::pick<int64_t>(value_widths),
                          harness::pick<int>({0, 4, 6, 8, 10, 12}), harness::pick<int>({0, 4, 8}), dtype);
    s.k = random_part(dtype, {batch, s.heads, tokens, s.width});
    s.v = random_part(dtype, {batch, s.heads, tokens, s.value_width});
    const Part start = integers(std::vector<int64_t>(static_cast<size_t>(batch), 0));
    formats::kv_append(s.spans.keys, s.spans.values, s.k.span, s.v.span, start.span, s.msb_bits, s.value_bits, 2);
    return s;
}

// Integers of a row and their scale, as formats/bitplane.h defines them.
inline float quantise(const Part& from, int64_t row, int64_t width, int bits, std::vector<double>& out) {
    float largest = 0.0f;
    const auto at = [&](int64_t d) { return core::load_float(from.span.data, row * width + d, from.span.dtype); };
    for (int64_t d = 0; d < width; ++d) largest = std::max(largest, std::fabs(at(d)));
    const float scale = largest == 0.0f ? 1.0f : largest / static_cast<float>((1 << (bits - 1)) - 1);
    out.clear();
    for (int64_t d = 0; d < width; ++d) out.push_back(std::nearbyint(at(d) / scale));
    return scale;
}

// A row as the kernels see it; `high`: without the low bits, with the middle of what they may be.
inline std::vector<double> row_of(const Part& from, int64_t row, int64_t width, int bits, bool high) {
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
    std::vector<std::vector<int64_t>> seen;  // of every sequence
    cpu::DecodeRule rule;

    int64_t slots() const { return selects ? rows.span.shape[1] : store.tokens; }
    bool alive(int64_t b, int64_t head) const {
        return !seen[static_cast<size_t>(b)].empty() && kept.memory.bytes[static_cast<size_t>(b * heads + head)] != 0;
    }
};

inline Problem random_problem(Store store, const std::vector<int64_t>& groups) {
    const int64_t batch = store.batch, tokens = store.tokens;
    Problem p{std::move(store), 0, {}, {}, {}, {}, {}, {}, false, false, {}, {}};
    p.heads = p.store.heads * harness::pick<int64_t>(groups);
    p.q = random_part(p.store.dtype, {batch, p.heads, 1, p.store.width});
    p.selects = harness::integer(0, 1) == 1;
    std::vector<int64_t> starts, lengths, counts;
    for (int64_t b = 0; b < batch; ++b) {
        const int64_t first = harness::integer(0, tokens / 2), all = tokens - first;
        const int64_t count = harness::integer(0, 1) == 1 ? all : harness::integer(0, all);
        starts.push_back(first), lengths.push_back(count);
        std::vector<int64_t> seen;
        for (int64_t i = first; i < first + count; ++i) {
            if (!p.selects || harness::integer(0, 2) > 0) seen.push_back(i);
        }
        counts.push_back(static_cast<int64_t>(seen.size()));
        p.seen.push_back(seen);
    }
    p.starts = integers(starts), p.lengths = integers(lengths), p.counts = integers(counts);
    const int64_t most = *std::max_element(counts.begin(), counts.end()) + 1;
    p.rows = part(DType::I64, {batch, most});
    std::fill_n(p.rows.span.as<int64_t>(), batch * most, INT64_MIN);  // not looked at
    for (int64_t b = 0; b < batch; ++b) {
        const auto& seen = p.seen[static_cast<size_t>(b)];
        std::copy(seen.begin(), seen.end(), p.rows.span.as<int64_t>() + b * most);
    }
    p.prunes = harness::integer(0, 1) == 1;
    p.kept = part(DType::U8, {batch, p.heads});
    for (uint8_t& byte : p.kept.memory.bytes) byte = !p.prunes || harness::integer(0, 2) > 0 ? 1 : 0;
    p.rule.scale = 1.0f / std::sqrt(static_cast<float>(p.store.width));
    p.rule.threshold = harness::pick<float>({-1.0f, 0.05f, 0.3f, 2.0f});
    p.rule.value_keep = harness::pick<double>({1.0, 0.5, 0.1});
    p.rule.value_mass = harness::pick<float>({0.0f, 0.6f});
    p.rule.group_values = harness::integer(0, 1) == 1;
    return p;
}

inline cpu::DecodeSeen seen_of(const Problem& p) {
    return {&p.starts.span, &p.lengths.span, p.selects ? &p.rows.span : nullptr, p.selects ? &p.counts.span : nullptr,
            p.prunes ? &p.kept.span : nullptr, p.store.tokens};
}

struct Result {
    Part out, lse, tokens, heads, low, used;

    cpu::DecodeOutputs outputs() const { return {&out.span, &lse.span, &tokens.span, &heads.span, &low.span, &used.span}; }
};

inline Result empty_result(const Problem& p) {
    const int64_t batch = p.store.batch;
    return {part(p.store.dtype, {batch, p.heads, 1, p.store.value_width}), part(DType::F32, {batch, p.heads, 1}),
            part(DType::I64, {batch, p.heads, p.slots()}), part(DType::I64, {batch, p.heads}), part(DType::U8, {batch, p.heads}),
            part(DType::I32, {batch, p.heads})};
}

inline bool equal(const Result& a, const Result& b) {
    return a.out.memory.bytes == b.out.memory.bytes && a.lse.memory.bytes == b.lse.memory.bytes &&
           a.tokens.memory.bytes == b.tokens.memory.bytes && a.heads.memory.bytes == b.heads.memory.bytes &&
           a.low.memory.bytes == b.low.memory.bytes && a.used.memory.bytes == b.used.memory.bytes;
}

// Probabilities of the rows that a head sees, and the logarithm of the sum of their exponentials.
struct Softmax {
    std::vector<double> p;
    double lse = 0.0;

    double largest() const { return *std::max_element(p.begin(), p.end()); }
};

inline Softmax softmax(const Problem& p, int64_t b, int64_t head, bool high) {
    const Store& s = p.store;
    const int64_t kv = head / (p.heads / s.heads);
    const int key_bits = s.msb_bits == 0 ? 0 : s.msb_bits + 4;
    const std::vector<double> q = row_of(p.q, b * p.heads + head, s.width, key_bits == 0 ? 0 : 15, false);
    Softmax row;
    for (int64_t slot : p.seen[static_cast<size_t>(b)]) {
        const std::vector<double> k = row_of(s.k, (b * s.heads + kv) * s.tokens + slot, s.width, key_bits, high);
        row.p.push_back(std::inner_product(q.begin(), q.end(), k.begin(), 0.0) * p.rule.scale);
    }
    const double largest = row.largest();
    double total = 0.0;
    for (double& value : row.p) total += value = std::exp(value - largest);
    for (double& value : row.p) value /= total;
    row.lse = largest + std::log(total);
    return row;
}

// Which V rows count. `sure` is false where rounding may decide otherwise.
struct Choice {
    std::vector<bool> rows;
    bool sure = true;
};

inline Choice choose(const Problem& p, const std::vector<std::vector<double>>& queries, const std::vector<double>& ranks) {
    const size_t n = ranks.size();
    const auto share = static_cast<size_t>(std::floor(static_cast<double>(n) * p.rule.value_keep + 1e-9));
    const size_t count = std::min(n, std::max<size_t>(1, share));
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ranks[a] > ranks[b]; });
    Choice choice{std::vector<bool>(n, false), true};
    for (size_t i = 0; i < count; ++i) choice.rows[order[i]] = true;
    choice.sure = count == n || ranks[order[count - 1]] - ranks[order[count]] > 1e-5 * ranks[order[count]];
    if (count == n) return choice;
    for (const std::vector<double>& query : queries) {
        double mass = 0.0;
        for (size_t i = 0; i < n; ++i) mass += choice.rows[i] ? query[i] : 0.0;
        if (std::fabs(mass - static_cast<double>(p.rule.value_mass)) < 1e-4) choice.sure = false;
        if (mass < static_cast<double>(p.rule.value_mass)) choice.rows.assign(n, true);
    }
    return choice;
}

inline void check_values(const Problem& p, const Result& r, int64_t b, int64_t head, const std::vector<double>& row,
                         const Choice& choice, double tolerance) {
    const Store& s = p.store;
    const int64_t at = b * p.heads + head, kv = head / (p.heads / s.heads);
    const double step = s.dtype == DType::F32 ? 0x1p-20 : s.dtype == DType::F16 ? 0x1p-10 : 0x1p-7;
    const auto& seen = p.seen[static_cast<size_t>(b)];
    CHECK(r.used.span.as<int32_t>()[at] == std::count(choice.rows.begin(), choice.rows.end(), true));
    std::vector<double> sum(static_cast<size_t>(s.value_width), 0.0);
    for (size_t i = 0; i < row.size(); ++i) {
        if (!choice.rows[i]) continue;
        const auto v = row_of(s.v, (b * s.heads + kv) * s.tokens + seen[i], s.value_width, s.value_bits, false);
        for (size_t d = 0; d < v.size(); ++d) sum[d] += row[i] * v[d];
    }
    int64_t score = 0;
    for (size_t d = 0; d < sum.size(); ++d) {
        const double got = core::load_float(r.out.span.data, at * s.value_width + static_cast<int64_t>(d), s.dtype);
        CHECK(std::fabs(got - sum[d]) <= step * std::fabs(sum[d]) + tolerance);
        score += static_cast<int64_t>(std::nearbyint(std::fabs(got) * 1048576.0));
    }
    CHECK(r.heads.span.as<int64_t>()[at] == score);
}

// `tolerance`: absolute, of outputs.
inline void check_group(const Problem& p, const Result& r, int64_t b, int64_t kv, double tolerance) {
    const int64_t group = p.heads / p.store.heads;
    std::vector<std::vector<double>> rows;
    std::vector<int64_t> heads;
    for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
        if (!p.alive(b, head)) continue;
        const int64_t at = b * p.heads + head;
        const bool low = r.low.memory.bytes[static_cast<size_t>(at)] != 0, planes = p.store.msb_bits != 0;
        Softmax row = softmax(p, b, head, planes);
        CHECK(low == (planes && row.largest() < p.rule.threshold) || std::fabs(row.largest() - p.rule.threshold) < 1e-4);
        if (low) row = softmax(p, b, head, false);
        CHECK(std::fabs(r.lse.span.as<float>()[at] - row.lse) <= 1e-5 * (1.0 + std::fabs(row.lse)));
        std::vector<double> units(static_cast<size_t>(p.slots()), 0.0);
        for (size_t i = 0; i < row.p.size(); ++i) {
            units[p.selects ? i : static_cast<size_t>(p.seen[static_cast<size_t>(b)][i])] = std::nearbyint(row.p[i] * 1048576.0);
        }
        const auto* scores = r.tokens.span.as<int64_t>() + at * p.slots();
        for (size_t i = 0; i < units.size(); ++i) {
            CHECK(units[i] == 0.0 ? std::abs(scores[i]) <= 1 : std::fabs(static_cast<double>(scores[i]) - units[i]) <= 16.0);
        }
        heads.push_back(head);
        rows.push_back(std::move(row.p));
    }
    for (size_t i = 0; i < heads.size(); ++i) {
        std::vector<double> ranks = rows[i];
        for (size_t j = 0; p.rule.group_values && j < heads.size(); ++j) {
            for (size_t row = 0; j != i && row < ranks.size(); ++row) ranks[row] += rows[j][row];
        }
        const Choice choice = choose(p, p.rule.group_values ? rows : std::vector<std::vector<double>>{rows[i]}, ranks);
        if (choice.sure) check_values(p, r, b, heads[i], rows[i], choice, tolerance);
    }
}

inline bool is_zero(const Part& part, int64_t row, int64_t of_row) {
    const int64_t bytes = of_row * itemsize(part.span.dtype);
    const auto* first = part.memory.bytes.data() + row * bytes;
    return std::all_of(first, first + bytes, [](uint8_t byte) { return byte == 0; });
}

inline void compare(const Problem& p, const Result& r, double tolerance) {
    for (int64_t b = 0; b < p.store.batch; ++b) {
        for (int64_t kv = 0; kv < p.store.heads; ++kv) check_group(p, r, b, kv, tolerance);
        for (int64_t head = 0; head < p.heads; ++head) {
            if (p.alive(b, head)) continue;
            const int64_t at = b * p.heads + head;
            CHECK(is_zero(r.out, at, p.store.value_width) && is_zero(r.tokens, at, p.slots()));
            CHECK(is_zero(r.heads, at, 1) && is_zero(r.low, at, 1) && is_zero(r.used, at, 1));
            CHECK(r.lse.span.as<float>()[at] == -INFINITY);
        }
    }
}

}  // namespace decode_problem
