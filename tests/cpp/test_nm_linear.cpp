#include <cmath>

#include "cpu/common/linear_prepare.h"
#include "cpu/layout.h"
#include "cpu/linear.h"
#include "harness.h"
#include "weights.h"

using namespace sparsecore;
using namespace weights;

namespace {

struct Activations {
    Memory memory{0};
    Span span;
};

// Contiguous, transposed, or every second column of a wider matrix.
Activations random_activations(int64_t tokens, int64_t cols, DType dtype) {
    const int64_t style = harness::integer(0, 2), count = style == 2 ? tokens * 2 * cols : tokens * cols;
    Activations x{Memory(count * itemsize(dtype)), {}};
    for (int64_t i = 0; i < count; ++i) set_value(x.memory.data(), i, dtype, harness::normal());
    x.span = make_span(x.memory.data(), dtype, {tokens, cols});
    x.span.bytes = count * itemsize(dtype);
    if (style == 1) x.span.strides[0] = 1, x.span.strides[1] = tokens;
    if (style == 2) x.span.strides[0] = 2 * cols, x.span.strides[1] = 2;
    return x;
}

double reference_activation(double x, const std::string& name) {
    if (name == "relu") return x < 0 ? 0.0 : x;
    if (name == "gelu") return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    if (name == "gelu_tanh") return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    if (name == "silu") return x / (1.0 + std::exp(-x));
    return x;
}

// Half a unit in the last place of the result, and fp32 sums of `terms` products of magnitude `size`.
double tolerance(DType dtype, double result, double size, int64_t terms) {
    const double rounding = dtype == DType::F32 ? 0x1p-22 : dtype == DType::F16 ? 0x1p-11 : 0x1p-8;
    return rounding * std::fabs(result) + 0x1p-24 * (2.0 + static_cast<double>(terms)) * size + 1e-6;
}

struct Problem {
    Weight weight;
    Activations x;
    Memory bias;
    bool has_bias;
    std::string activation;
    int64_t tokens;
};

Problem random_problem() {
    const int64_t m = harness::pick<int64_t>({2, 4, 4, 4, 8, 16, 17, 32, harness::integer(2, 32)});
    const int64_t n = harness::integer(1, m - 1), rows = random_size(), cols = random_size();
    const DType dtype = random_float_type();
    Problem p{random_nm(rows, cols, n, m, dtype, harness::integer(0, 1) == 1), Activations{}, Memory(rows * itemsize(dtype)),
              harness::integer(0, 1) == 1, harness::pick<std::string>({"none", "relu", "gelu", "gelu_tanh", "silu"}),
              harness::pick<int64_t>({0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 24, 25, 33})};
    p.x = random_activations(p.tokens, cols, dtype);
    for (int64_t i = 0; i < rows; ++i) set_value(p.bias.data(), i, dtype, harness::normal());
    return p;
}

Memory run(Problem& p, core::Isa isa, int threads) {
    const Geometry& g = p.weight.geometry;
    Resident resident(cpu::resident_size(p.weight.stored(), isa));
    cpu::resident_make(p.weight.stored(), isa, resident.span);
    Memory out(p.tokens * g.rows * itemsize(g.dtype));
    const Span bias = make_span(p.bias.data(), g.dtype, {g.rows});
    cpu::packed_linear(p.x.span, resident.span, p.has_bias ? &bias : nullptr,
                       make_span(out.data(), g.dtype, {p.tokens, g.rows}), p.activation, threads);
    return out;
}

void compare(Problem& p, Memory& out) {
    const Geometry& g = p.weight.geometry;
    for (int64_t t = 0; t < p.tokens; ++t) {
        for (int64_t row = 0; row < g.rows; ++row) {
            double sum = p.has_bias ? core::load_float(p.bias.data(), row, g.dtype) : 0.0, size = std::fabs(sum);
            for (int64_t col = 0; col < g.cols; ++col) {
                const double w = core::load_float(p.weight.dense.data(), row * g.cols + col, g.dtype);
                const int64_t place = t * p.x.span.strides[0] + col * p.x.span.strides[1];
                const double product = w * core::load_float(p.x.span.data, place, g.dtype);
                sum += product;
                size += std::fabs(product);
            }
            const double expected = reference_activation(sum, p.activation);
            const double got = core::load_float(out.data(), t * g.rows + row, g.dtype);
            CHECK(std::fabs(got - expected) <= tolerance(g.dtype, expected, size, g.cols));
        }
    }
}

}  // namespace

TEST(nm_linear_equals_the_double_reference_on_every_isa) {
    for (int round = 0; round < 250; ++round) {
        Problem p = random_problem();
        for (core::Isa isa : core::available_isas()) {
            Memory out = run(p, isa, 1);
            compare(p, out);
        }
    }
}

TEST(nm_linear_has_the_same_bits_for_any_threads_and_any_batch) {
    for (int round = 0; round < 40; ++round) {
        Problem p = random_problem();
        const int64_t row_bytes = p.weight.geometry.rows * itemsize(p.weight.geometry.dtype);
        for (core::Isa isa : core::available_isas()) {
            const Memory once = run(p, isa, 1);
            for (int threads : {2, 3, 8}) CHECK(run(p, isa, threads).bytes == once.bytes);
            if (p.tokens == 0) continue;
            Problem single = p;  // the last token alone
            single.x.span.data = static_cast<uint8_t*>(p.x.span.data) +
                                 (p.tokens - 1) * p.x.span.strides[0] * itemsize(p.weight.geometry.dtype);
            single.x.span.bytes -= (p.tokens - 1) * p.x.span.strides[0] * itemsize(p.weight.geometry.dtype);
            single.x.span.shape[0] = single.tokens = 1;
            const Memory alone = run(single, isa, 1);
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
