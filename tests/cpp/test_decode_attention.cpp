// Decode attention and its store without Python: every instruction set, AMX on the tile model, against doubles.
#include "core/isa.h"
#include "decode_problem.h"

using namespace decode_problem;

namespace {

constexpr double kTolerance = 3e-3;  // 16-bit probabilities where values are int8

Store some_store(int64_t batch, int64_t tokens) {
    return random_store(batch, tokens, {1, 2, 31, 32, 33, 64, 65, 80, 128, 200}, {1, 16, 20, 64, 100, 128});
}

Problem some_problem(int64_t batch, int64_t tokens) { return random_problem(some_store(batch, tokens), {1, 2, 3, 4, 7, 18}); }

Result run(const Problem& p, int threads) {
    Result r = empty_result(p);
    cpu::decode_attention(p.q.span, p.store.spans, seen_of(p), p.rule, r.outputs(), threads);
    return r;
}

}  // namespace

TEST(decode_attention_equals_the_double_reference_on_every_isa) {
    for (int round = 0; round < 60; ++round) {
        const Problem p = some_problem(harness::integer(1, 2), harness::pick<int64_t>({1, 2, 15, 16, 17, 63, 64, 65, 130}));
        for (core::Isa isa : core::available_isas()) {
            core::set_isa(core::isa_name(isa));
            const Result r = run(p, 1);
            compare(p, r, kTolerance);
            CHECK(equal(r, run(p, 3)));
        }
        core::set_isa("auto");
    }
}

TEST(decode_attention_shares_long_contexts_among_threads) {
    for (int round = 0; round < 3; ++round) {
        const Problem p = some_problem(1, 3000);
        for (core::Isa isa : core::available_isas()) {
            core::set_isa(core::isa_name(isa));
            const Result r = run(p, 1);
            for (int threads : {2, 3, 7}) CHECK(equal(r, run(p, threads)));
        }
        core::set_isa("auto");
    }
}

TEST(decode_attention_checks_its_arguments) {
    Problem p = some_problem(1, 20);
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
    // 64 more, not 1: planes of bits are padded to whole bytes, so a width of 31 and one of 32 are stored alike.
    CHECK_ERROR("ShapeError", run(broken([](Problem& x) { x.q = random_part(x.store.dtype, {1, x.heads, 1, x.store.width + 64}); }), 1));
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
                        x.seen = {{0, 1}};
                        x.counts = integers({2});
                        x.rows = part(DType::I64, {1, 3});
                        std::copy(rows.begin(), rows.end(), x.rows.span.as<int64_t>());
                    }), 1));
    }
}

TEST(kv_append_checks_its_arguments) {
    Store s = empty_store(1, 2, 5, 8, 8, 8, 8, DType::F32);
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
        Store s = some_store(1, harness::integer(1, 40));
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
