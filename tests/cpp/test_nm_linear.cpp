#include <cmath>
#include <utility>

#include "cpu/layout.h"
#include "cpu/linear.h"
#include "harness.h"
#include "linear_problem.h"
#include "weights.h"

using namespace sparsecore;
using namespace weights;

namespace {

LinearProblem random_nm_problem() {
    const int64_t m = harness::pick<int64_t>({2, 4, 4, 4, 8, 16, 17, 32, harness::integer(2, 32)});
    const int64_t n = harness::integer(1, m - 1), rows = random_size(), cols = random_size();
    const DType dtype = random_float_type();
    return random_problem(random_nm(rows, cols, n, m, dtype, harness::integer(0, 1) == 1),
                          harness::pick<int64_t>({0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 24, 25, 33}));
}

}  // namespace

TEST(nm_linear_equals_the_double_reference_on_every_isa) {
    for (int round = 0; round < 250; ++round) {
        LinearProblem p = random_nm_problem();
        for (core::Isa isa : core::available_isas()) {
            Memory out = run_linear(p, isa, 1);
            compare_linear(p, out);
        }
    }
}

// Pieces of the depth, chunks of tokens, panels of rows, and the ragged ends of each.
TEST(nm_linear_crosses_its_blocks) {
    struct Size {
        int64_t rows, cols, tokens;
    };
    for (const auto& [rows, cols, tokens] : {Size{33, harness::integer(520, 1100), harness::integer(17, 110)},
                                            Size{1100, harness::integer(1, 50), 9}, Size{3, 17408, 20}, Size{2, 40, 700}}) {
        for (const auto& [n, m] : {std::pair<int64_t, int64_t>{2, 4}, {1, 4}, {2, 5}, {5, 16}, {3, 32}}) {
            const DType dtype = random_float_type();
            LinearProblem p = random_problem(random_nm(rows, cols, n, m, dtype, harness::integer(0, 1) == 1), tokens);
            for (core::Isa isa : core::available_isas()) {
                Memory out = run_linear(p, isa, 1);
                compare_linear(p, out);
                CHECK(run_linear(p, isa, 3).bytes == out.bytes);
            }
        }
    }
}

TEST(nm_resident_bytes_are_close_to_the_stored_ones) {
    for (int64_t m = 2; m <= 32; ++m) {
        for (int64_t n = 1; n < m; ++n) {
            Weight weight = random_nm(harness::pick<int64_t>({1, 17, 40, 1000}), harness::integer(0, 200), n, m,
                                      random_float_type(), harness::integer(0, 1) == 1);
            const formats::PartBytes stored = formats::part_bytes(weight.geometry);
            for (core::Isa isa : core::available_isas()) {
                CHECK(100 * (cpu::resident_size(weight.stored(), isa) - 4096) <= 115 * (stored.values + stored.positions));
            }
        }
    }
}

TEST(nm_linear_has_the_same_bits_for_any_threads_and_any_batch) {
    for (int round = 0; round < 40; ++round) {
        LinearProblem p = random_nm_problem();
        const int64_t row_bytes = p.weight.geometry.rows * itemsize(p.weight.geometry.dtype);
        for (core::Isa isa : core::available_isas()) {
            const Memory once = run_linear(p, isa, 1);
            for (int threads : {2, 3, 8}) CHECK(run_linear(p, isa, threads).bytes == once.bytes);
            if (p.tokens == 0 || isa == core::Isa::Amx) continue;  // tiles sum in another order than single tokens
            LinearProblem single = p;  // the last token alone
            single.x.span.data = static_cast<uint8_t*>(p.x.span.data) +
                                 (p.tokens - 1) * p.x.span.strides[0] * itemsize(p.weight.geometry.dtype);
            single.x.span.bytes -= (p.tokens - 1) * p.x.span.strides[0] * itemsize(p.weight.geometry.dtype);
            single.x.span.shape[0] = single.tokens = 1;
            const Memory alone = run_linear(single, isa, 1);
            CHECK(std::equal(alone.bytes.begin(), alone.bytes.end(), once.bytes.end() - row_bytes));
        }
    }
}

TEST(pruned_positions_ignore_inf_and_nan) {
    for (core::Isa isa : core::available_isas()) {
        for (float poison : {INFINITY, -INFINITY, NAN}) {
            Weight weight = random_nm(17, 21, 1, 4, DType::F32, false);
            const auto* dense = static_cast<const float*>(weight.dense.data());
            Resident resident(cpu::resident_size(weight.stored(), isa));
            cpu::resident_make(weight.stored(), isa, resident.span);
            const int64_t column = harness::integer(0, 20);
            std::vector<float> x(21, 1.0f), out(17);
            x[static_cast<size_t>(column)] = poison;
            cpu::packed_linear(make_span(x.data(), DType::F32, {1, 21}), resident.span, nullptr,
                               make_span(out.data(), DType::F32, {1, 17}), "none", 1);
            for (int64_t row = 0; row < 17; ++row) {
                const uint8_t* mask = weight.positions.bytes.data() + row * 3;
                const bool kept = formats::test_bit(mask, column);
                CHECK(kept || std::isfinite(out[static_cast<size_t>(row)]));
                if (dense[row * 21 + column] != 0.0f) CHECK(!std::isfinite(out[static_cast<size_t>(row)]));
            }
        }
    }
}

TEST(packed_linear_checks_its_arguments) {
    Weight weight = random_nm(18, 40, 2, 4, DType::F32, false);
    Resident resident(cpu::resident_size(weight.stored(), core::runtime_isa()));
    cpu::resident_make(weight.stored(), core::runtime_isa(), resident.span);
    std::vector<float> x(3 * 40), out(3 * 18), bias(18);
    const Span xs = make_span(x.data(), DType::F32, {3, 40}), os = make_span(out.data(), DType::F32, {3, 18});
    const Span bs = make_span(bias.data(), DType::F32, {18});
    const auto call = [&](const Span& x_, const Span* b_, const Span& o_, const char* activation, int threads) {
        cpu::packed_linear(x_, resident.span, b_, o_, activation, threads);
    };
    call(xs, &bs, os, "gelu", 2);
    CHECK_ERROR("ShapeError", call(make_span(x.data(), DType::F32, {3, 39}), &bs, os, "none", 1));
    CHECK_ERROR("ShapeError", call(xs, &bs, make_span(out.data(), DType::F32, {2, 18}), "none", 1));
    CHECK_ERROR("DtypeError", call(make_span(x.data(), DType::BF16, {3, 40}), &bs, os, "none", 1));
    const Span short_bias = make_span(bias.data(), DType::F32, {17});
    CHECK_ERROR("ShapeError", call(xs, &short_bias, os, "none", 1));
    CHECK_ERROR("AliasingError", call(xs, &bs, make_span(x.data(), DType::F32, {3, 18}), "none", 1));
    CHECK_ERROR("UnknownNameError", call(xs, &bs, os, "tanh", 1));
    CHECK_ERROR("InvalidValueError", call(xs, &bs, os, "none", 0));
    Span cut = xs;
    cut.bytes -= 4;
    CHECK_ERROR("SpanError", call(cut, &bs, os, "none", 1));
    if (core::runtime_isa() != core::Isa::Portable) {
        core::set_isa("portable");
        CHECK_ERROR("ResidentError", call(xs, &bs, os, "none", 1));
        core::set_isa("auto");
    }
}
