// Weights in every CUDA layout made dense by the emulated device, and the repair of products with them.
#include "cuda/expand/expand.h"
#include "cuda_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

Weight any_weight() {
    const int64_t rows = harness::pick<int64_t>({1, 16, 33, 70}), cols = harness::pick<int64_t>({1, 3, 64, 65, 200});
    const DType dtype = random_float_type();
    switch (harness::integer(0, 6)) {
        case 0: return random_nm(rows, cols, 2, 4, dtype, harness::integer(0, 1) == 1);
        case 1: {
            const int64_t m = harness::pick<int64_t>({2, 4, 8, 8, 17, 32});
            return random_nm(rows, cols, harness::integer(1, m - 1), m, dtype, true);
        }
        case 2: {
            const auto [n, m] = harness::pick<std::pair<int64_t, int64_t>>({{1, 4}, {1, 8}, {2, 8}});  // octets where they are large
            return random_nm(harness::pick<int64_t>({64, 70}), harness::pick<int64_t>({250, 256}), n, m, dtype, true);
        }
        case 6: {
            const auto [n, m] = harness::pick<std::pair<int64_t, int64_t>>({{1, 4}, {1, 8}, {2, 8}});
            return random_nm(rows, cols, n, m, DType::I8, harness::integer(0, 1) == 1);
        }
        case 3: return random_bitmask(rows, cols, dtype, harness::pick<double>({0.0, 0.4, 1.0}));
        case 4: return random_blocks(rows, cols, harness::pick<int64_t>({16, 64}), harness::pick<int64_t>({16, 128}), dtype, 0.5);
        default: return random_blocks(rows, cols, harness::integer(1, 20), harness::integer(1, 20), dtype, 0.5);
    }
}

// One that has a layout on the device.
Weight random_weight() {
    for (;;) {
        Weight weight = any_weight();
        if (cuda::is_cuda_layout(formats::open_resident(cuda_resident(weight).span))) return weight;
    }
}

Memory expand(Weight& weight, bool marks_pruned) {
    const Geometry& g = weight.geometry;
    const Resident resident = cuda_resident(weight);
    const uint32_t layout = formats::open_resident(resident.span).layout;
    Memory out(g.rows * g.cols * itemsize(g.dtype));
    const Span span = make_span(out.data(), g.dtype, {g.rows, g.cols});
    cuda::expand_launch(cuda::expand_call(g, layout, resident.span, span, marks_pruned), g.dtype, 0);
    return out;
}

}  // namespace

TEST(cuda_expand_gives_the_dense_weight_of_every_layout) {
    for (int round = 0; round < 60; ++round) {
        Weight weight = random_weight();
        Memory expected(static_cast<int64_t>(weight.dense.bytes.size()));
        stored_to_dense(weight.stored(), make_span(expected.data(), weight.geometry.dtype, {weight.geometry.rows, weight.geometry.cols}));
        Memory first;
        for (const auto schedule : {cuda::emulator::kSchedules[0], cuda::emulator::kSchedules[5]}) {
            cuda::emulator::device().schedule = schedule;
            CHECK(expand(weight, false).bytes == expected.bytes);
        }
    }
}

TEST(cuda_expand_marks_what_is_pruned) {
    for (int round = 0; round < 20; ++round) {
        Weight weight = random_weight();
        const Geometry& g = weight.geometry;
        if (!core::is_float(g.dtype)) continue;
        const Memory out = expand(weight, true);
        // The same weight with ones for values says what is kept.
        Weight ones = weight;
        for (int64_t i = 0; i < static_cast<int64_t>(ones.values.bytes.size()) / itemsize(g.dtype); ++i) set_value(ones.values.data(), i, g.dtype, 1.0f);
        const bool is_ragged = g.kind == Kind::Block && (g.rows % g.p0 != 0 || g.cols % g.p1 != 0);
        if (is_ragged) continue;  // padding must stay zero
        const Memory kept = expand(ones, false);
        for (int64_t i = 0; i < g.rows * g.cols; ++i) {
            const float value = core::load_float(out.bytes.data(), i, g.dtype);
            const bool is_marked = value == 0.0f && std::signbit(value);
            CHECK(is_marked == (core::load_float(kept.bytes.data(), i, g.dtype) == 0.0f));
            CHECK(value == core::load_float(weight.dense.bytes.data(), i, g.dtype));
        }
    }
}

// Products with the marked weight as any dense kernel gives them, then repaired: forward, and with the transposed weight.
TEST(cuda_repair_takes_pruned_positions_out_of_products) {
    for (const bool transposed : {false, true}) {
        const DType dtype = random_float_type();
        Weight weight = random_bitmask(9, 30, dtype, 0.5);
        Memory marked = expand(weight, true);
        const int64_t terms = transposed ? 9 : 30, columns = transposed ? 30 : 9, tokens = 4;
        Memory a(tokens * terms * itemsize(dtype)), out(tokens * columns * itemsize(dtype)), bias(columns * itemsize(dtype));
        for (int64_t i = 0; i < tokens * terms; ++i) set_value(a.data(), i, dtype, i == 5 ? INFINITY : i == terms + 2 ? NAN : harness::normal());
        for (int64_t i = 0; i < columns; ++i) set_value(bias.data(), i, dtype, harness::normal());
        const auto weight_at = [&](int64_t column, int64_t term) {
            return core::load_float(marked.data(), transposed ? term * 30 + column : column * 30 + term, dtype);
        };
        std::vector<double> exact(static_cast<size_t>(tokens * columns)), dense = exact;
        for (int64_t i = 0; i < tokens * columns; ++i) {
            exact[static_cast<size_t>(i)] = dense[static_cast<size_t>(i)] = core::load_float(bias.data(), i % columns, dtype);
            for (int64_t k = 0; k < terms; ++k) {
                const float w = weight_at(i % columns, k), x = core::load_float(a.data(), i / columns * terms + k, dtype);
                dense[static_cast<size_t>(i)] += static_cast<double>(w) * x;
                if (w != 0.0f) exact[static_cast<size_t>(i)] += static_cast<double>(w) * x;
            }
            set_value(out.data(), i, dtype, static_cast<float>(dense[static_cast<size_t>(i)]));
        }
        Span weight_span = make_span(marked.data(), dtype, {9, 30});
        if (transposed) {
            std::swap(weight_span.shape[0], weight_span.shape[1]);
            std::swap(weight_span.strides[0], weight_span.strides[1]);
        }
        const Span bias_span = make_span(bias.data(), dtype, {columns});
        const auto args = cuda::repair_call(make_span(a.data(), dtype, {tokens, terms}), weight_span, &bias_span,
                                            make_span(out.data(), dtype, {tokens, columns}));
        cuda::repair_launch(args, dtype, 0);
        for (int64_t i = 0; i < tokens * columns; ++i) {
            const double expected = exact[static_cast<size_t>(i)], got = core::load_float(out.data(), i, dtype);
            CHECK(std::isnan(expected) ? std::isnan(got) : got == expected || std::fabs(got - expected) <= tolerance(dtype, expected, 50.0, terms));
        }
    }
}

TEST(cuda_expand_checks_its_arguments) {
    Weight weight = random_nm(16, 64, 2, 4, DType::BF16, true);
    const Resident resident = cuda_resident(weight);
    const Geometry g = weight.geometry;
    const uint32_t layout = formats::open_resident(resident.span).layout;
    std::vector<uint16_t> out(16 * 64);
    cuda::expand_call(g, layout, resident.span, make_span(out.data(), DType::BF16, {16, 64}), false);
    CHECK_ERROR("DtypeError", cuda::expand_call(g, layout, resident.span, make_span(out.data(), DType::F16, {16, 64}), false));
    CHECK_ERROR("ShapeError", cuda::expand_call(g, layout, resident.span, make_span(out.data(), DType::BF16, {64, 16}), false));
    Geometry other = g;
    other.cols = 128;
    out.resize(16 * 128);
    CHECK_ERROR("ShapeError", cuda::expand_call(other, layout, resident.span, make_span(out.data(), DType::BF16, {16, 128}), false));
}
