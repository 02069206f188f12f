#include <algorithm>
#include <cmath>

#include "core/isa.h"
#include "prefill_problem.h"

using namespace sparsecore;
using namespace weights;
using namespace prefill;
using core::make_span;

namespace {

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
