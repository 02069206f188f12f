// A random call of packed_linear with any weight, and its double reference.
#pragma once

#include <cmath>
#include <string>

#include "cpu/layout.h"
#include "cpu/linear.h"
#include "harness.h"
#include "weights.h"

namespace weights {

namespace core = sparsecore::core;
namespace cpu = sparsecore::cpu;

struct Activations {
    Memory memory;
    Span span;
};

// Contiguous, transposed, or every second column of a wider matrix.
inline Activations random_activations(int64_t tokens, int64_t cols, DType dtype) {
    const int64_t style = harness::integer(0, 2), count = style == 2 ? tokens * 2 * cols : tokens * cols;
    Activations x{Memory(count * itemsize(dtype)), {}};
    for (int64_t i = 0; i < count; ++i) set_value(x.memory.data(), i, dtype, harness::normal());
    x.span = make_span(x.memory.data(), dtype, {tokens, cols});
    x.span.bytes = count * itemsize(dtype);
    if (style == 1) x.span.strides[0] = 1, x.span.strides[1] = tokens;
    if (style == 2) x.span.strides[0] = 2 * cols, x.span.strides[1] = 2;
    return x;
}

inline double reference_activation(double x, const std::string& name) {
    if (name == "relu") return x < 0 ? 0.0 : x;
    if (name == "gelu") return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    if (name == "gelu_tanh") return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    if (name == "silu") return x / (1.0 + std::exp(-x));
    return x;
}

// Half a unit in the last place of the result, and fp32 sums of `terms` products of magnitude `size`.
inline double tolerance(DType dtype, double result, double size, int64_t terms) {
    const double rounding = dtype == DType::F32 ? 0x1p-22 : dtype == DType::F16 ? 0x1p-11 : 0x1p-8;
    return rounding * std::fabs(result) + 0x1p-24 * (2.0 + static_cast<double>(terms)) * size + 1e-6;
}

struct LinearProblem {
    Weight weight;
    Activations x;
    Memory bias;
    bool has_bias;
    std::string activation;
    int64_t tokens;
};

inline LinearProblem random_problem(Weight weight, int64_t tokens) {
    const Geometry g = weight.geometry;
    LinearProblem p{std::move(weight), random_activations(tokens, g.cols, g.dtype), Memory(g.rows * itemsize(g.dtype)),
                    harness::integer(0, 1) == 1,
                    harness::pick<std::string>({"none", "relu", "gelu", "gelu_tanh", "silu"}), tokens};
    for (int64_t i = 0; i < g.rows; ++i) set_value(p.bias.data(), i, g.dtype, harness::normal());
    return p;
}

// [tokens, rows] in memory, or its transpose.
inline Memory run_linear(LinearProblem& p, core::Isa isa, int threads, bool transposed = false) {
    const Geometry& g = p.weight.geometry;
    Resident resident(cpu::resident_size(p.weight.stored(), isa));
    cpu::resident_make(p.weight.stored(), isa, resident.span);
    Memory out(p.tokens * g.rows * itemsize(g.dtype));
    Span span = make_span(out.data(), g.dtype, {p.tokens, g.rows});
    if (transposed) span.strides[0] = 1, span.strides[1] = p.tokens;
    const Span bias = make_span(p.bias.data(), g.dtype, {g.rows});
    cpu::packed_linear(p.x.span, resident.span, p.has_bias ? &bias : nullptr, span, p.activation, threads);
    return out;
}

inline void compare_linear(LinearProblem& p, Memory& out, bool transposed = false) {
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
            const int64_t place = transposed ? row * p.tokens + t : t * g.rows + row;
            const double got = core::load_float(out.data(), place, g.dtype);
            CHECK(std::fabs(got - expected) <= tolerance(g.dtype, expected, size, g.cols));
        }
    }
}

// Every ISA against the reference, with other threads and another output order, and (if the kernel promises the same
// bits for any batch) its last token alone.
inline void check_problem(LinearProblem& p, bool same_in_any_batch) {
    const bool transposed = harness::integer(0, 3) == 0;
    const int64_t row_bytes = p.weight.geometry.rows * itemsize(p.weight.geometry.dtype);
    for (core::Isa isa : core::available_isas()) {
        Memory out = run_linear(p, isa, 1, transposed);
        compare_linear(p, out, transposed);
        CHECK(run_linear(p, isa, 3, transposed).bytes == out.bytes);
        if (p.tokens == 0 || transposed || !same_in_any_batch || isa == core::Isa::Amx) continue;
        LinearProblem single = p;
        const int64_t skipped = (p.tokens - 1) * p.x.span.strides[0] * itemsize(p.weight.geometry.dtype);
        single.x.span.data = static_cast<uint8_t*>(p.x.span.data) + skipped;
        single.x.span.bytes -= skipped;
        single.x.span.shape[0] = single.tokens = 1;
        const Memory alone = run_linear(single, isa, 1);
        CHECK(std::equal(alone.bytes.begin(), alone.bytes.end(), out.bytes.end() - row_bytes));
    }
}

// One poisoned input: outputs that keep no weight there are those of the same call without the poison.
inline void check_poison(const Weight& weight) {
    const Geometry& g = weight.geometry;
    const int64_t column = harness::integer(0, g.cols - 1), tokens = harness::pick<int64_t>({1, 3, 20});
    LinearProblem p = random_problem(weight, tokens);
    p.has_bias = false;
    p.activation = "none";
    for (core::Isa isa : core::available_isas()) {
        LinearProblem clean = p, poisoned = p;
        for (int64_t t = 0; t < tokens; ++t) {
            const int64_t place = t * p.x.span.strides[0] + column * p.x.span.strides[1];
            set_value(poisoned.x.memory.data(), place, g.dtype, harness::pick<float>({INFINITY, -INFINITY, NAN}));
        }
        clean.x.span.data = clean.x.memory.data();
        poisoned.x.span.data = poisoned.x.memory.data();
        Memory expected = run_linear(clean, isa, 1), out = run_linear(poisoned, isa, 1);
        for (int64_t i = 0; i < tokens * g.rows; ++i) {
            const float weight_there = core::load_float(p.weight.dense.data(), i % g.rows * g.cols + column, g.dtype);
            const float got = core::load_float(out.data(), i, g.dtype);
            // Tiles run only where all of x is finite, and sum in another order than the kernel that runs instead.
            const double clean_value = core::load_float(expected.data(), i, g.dtype);
            const double most = isa == core::Isa::Amx ? tolerance(g.dtype, clean_value, 1e3, g.cols) : 0.0;
            const bool same = std::fabs(got - clean_value) <= most;
            if (weight_there != 0.0f) {
                CHECK(!std::isfinite(got));
            } else if (g.kind == Kind::Bitmask) {
                CHECK(same);
            } else {  // a kept block holds zeros as well, and 0 * inf is NaN there as in a dense layer
                CHECK(same || std::isnan(got));
            }
        }
    }
}

}  // namespace weights
