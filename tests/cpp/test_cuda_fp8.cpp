// fp8 weights: quantised tokens bit for bit, the layer by its launches on emulated GPUs against exact sums, and what is expanded.
#include "cuda/expand/expand.h"
#include "cuda/nm_linear/int8/int8_linear.h"
#include "cuda/nm_linear/nm_linear.h"
#include "cuda_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

// A token by the rule of docs/formats.md: the scale NaN and zeros where x is not finite.
struct Token {
    std::vector<uint8_t> q;
    float scale;
};

Token quantise(const Span& x, int64_t token) {
    const int64_t cols = x.shape[1];
    const auto at = [&](int64_t c) { return core::load_float(x.data, token * x.strides[0] + c * x.strides[1], x.dtype); };
    float amax = 0.0f;
    for (int64_t c = 0; c < cols; ++c) amax = std::isfinite(at(c)) ? std::fmax(amax, std::fabs(at(c))) : INFINITY;
    Token out{std::vector<uint8_t>(static_cast<size_t>(cuda::quantised_stride(cols))), NAN};
    if (std::isinf(amax)) return out;
    out.scale = amax / 448.0f == 0.0f ? 1.0f : amax / 448.0f;
    for (int64_t c = 0; c < cols; ++c) out.q[static_cast<size_t>(c)] = core::f32_to_e4m3(at(c) / out.scale);
    return out;
}

const std::vector<std::pair<int64_t, int64_t>> kPatterns{{2, 4}, {1, 4}, {1, 8}, {2, 8}};

struct Layer {
    Weight weight;
    Activations x;
    DType dtype, bias_dtype;
    int64_t tokens, splits = 1;
    Memory bias, out;
    core::AlignedBuffer q;
    std::vector<float> x_scales;

    Layer(std::pair<int64_t, int64_t> pattern, int64_t about_rows, int64_t cols, int64_t token_count)
        : weight(random_nm(byte_rows(about_rows, cols, pattern.first, pattern.second), cols, pattern.first, pattern.second, DType::F8,
                           harness::integer(0, 1) == 1)),
          dtype(random_float_type()),
          tokens(token_count),
          q(token_count * cuda::quantised_stride(cols) + 64),
          x_scales(static_cast<size_t>(token_count)) {
        x = random_activations(tokens, cols, dtype);
        const int64_t spoiled = harness::integer(-2, tokens - 1);
        if (spoiled >= 0 && cols > 0) set_value(x.span.data, spoiled * x.span.strides[0], dtype, harness::pick<float>({NAN, INFINITY}));
        bias_dtype = harness::pick<DType>({dtype, DType::F32});
        const int64_t rows = weight.geometry.rows;
        bias = Memory(rows * itemsize(bias_dtype));
        for (int64_t r = 0; r < rows; ++r) set_value(bias.data(), r, bias_dtype, harness::normal());
    }

    void run(const Resident& resident) {
        const int64_t rows = weight.geometry.rows, stride = cuda::quantised_stride(weight.geometry.cols);
        out = Memory(tokens * rows * itemsize(dtype));
        Memory sums(splits * tokens * rows * 4);
        const Span workspace = make_span(sums.data(), DType::F32, {splits, tokens, rows});
        const Span bias_span = make_span(bias.data(), bias_dtype, {rows});
        const cuda::Int8Args args = cuda::int8_linear_call(
            x.span, resident.span, weight.geometry.p0, weight.geometry.p1, &bias_span, make_span(out.data(), dtype, {tokens, rows}), cpu::Activation::None,
            make_span(q.as<void>(), DType::F8, {tokens, stride}), make_span(x_scales.data(), DType::F32, {tokens}),
            splits > 1 ? &workspace : nullptr);
        cuda::int8_linear_launch(args, dtype, 0);
    }

    void compare() {
        const int64_t rows = weight.geometry.rows, cols = weight.geometry.cols, stride = cuda::quantised_stride(cols);
        const auto* scales = static_cast<const float*>(weight.scales.data());
        for (int64_t t = 0; t < tokens; ++t) {
            const Token token = quantise(x.span, t);
            CHECK(std::equal(token.q.begin(), token.q.end(), q.as<uint8_t>() + t * stride));
            CHECK(std::isnan(token.scale) ? std::isnan(x_scales[static_cast<size_t>(t)]) : x_scales[static_cast<size_t>(t)] == token.scale);
            for (int64_t r = 0; r < rows; ++r) {
                double sum = 0.0, size = 0.0;
                for (int64_t c = 0; c < cols; ++c) {
                    const double product = static_cast<double>(core::e4m3_to_f32(weight.dense.bytes[static_cast<size_t>(r * cols + c)])) *
                                           core::e4m3_to_f32(token.q[static_cast<size_t>(c)]);
                    sum += product;
                    size += std::fabs(product);
                }
                const double scale = static_cast<double>(token.scale) * scales[r];
                const double expected = sum * scale + core::load_float(bias.data(), r, bias_dtype);
                const double got = core::load_float(out.data(), t * rows + r, dtype);
                CHECK(std::isnan(expected) ? std::isnan(got) : std::fabs(got - expected) <= tolerance(dtype, expected, size * scale, cols));
            }
        }
    }
};

void check(int capability, std::pair<int64_t, int64_t> pattern, int64_t rows, int64_t cols, int64_t tokens, int64_t splits = 1) {
    const harness::OnDevice device(capability);
    Layer layer(pattern, rows, cols, tokens);
    layer.splits = splits;
    const Resident resident = cuda_resident(layer.weight);
    Memory first;
    for (const auto schedule : cuda::emulator::kSchedules) {
        cuda::emulator::device().schedule = schedule;
        layer.run(resident);
        CHECK(first.bytes.empty() || first.bytes == layer.out.bytes);
        first = layer.out;
    }
    layer.compare();
}

}  // namespace

TEST(cuda_fp8_linear_quantises_exactly_and_sums_in_fp32) {
    for (int round = 0; round < 3; ++round) {
        const int64_t rows = harness::pick<int64_t>({1, 65, 128, 130}), cols = harness::pick<int64_t>({0, 3, 100, 128, 515});
        check(harness::pick<int>({89, 120}), {2, 4}, rows, cols, harness::pick<int64_t>({17, 32}));
    }
    check(89, {2, 4}, harness::pick<int64_t>({1, 65}), harness::pick<int64_t>({100, 400}), harness::pick<int64_t>({33, 130}));
}

TEST(cuda_fp8_decode_sums_in_fp32) {
    for (const auto& pattern : kPatterns) {
        for (int round = 0; round < 3; ++round) {
            check(harness::pick<int>({80, 89, 90, 100, 120}), pattern, harness::pick<int64_t>({1, 7, 16, 33, 65}),
                  harness::pick<int64_t>({0, 1, 3, 33, 64, 130, 515, 600}), harness::pick<int64_t>({1, 2, 8, 9, 16}), harness::integer(1, 3));
        }
    }
}

// Several chunks for a block, so that the ring of activations and the tiles ahead go round.
TEST(cuda_fp8_decode_goes_round_its_ring) {
    const auto pattern = harness::pick(kPatterns);
    check(80, pattern, harness::integer(14, 16), harness::integer(9 * 64, 12 * 64) * 8 * pattern.second / pattern.first / 2, 3);
}

// Where no kernel is for many tokens, blocks of 16 of them follow each other.
TEST(cuda_fp8_decode_takes_any_number_of_tokens) {
    check(80, harness::pick(kPatterns), harness::integer(1, 40), harness::integer(1, 300), harness::integer(17, 50));
}

TEST(cuda_fp8_weights_come_back) {
    for (int round = 0; round < 10; ++round) {
        const int64_t cols = random_size();
        const auto [n, m] = harness::pick(kPatterns);
        Weight weight = random_nm(byte_rows(random_size(), cols, n, m), cols, n, m, DType::F8, harness::integer(0, 1) == 1);
        Weight back = with_storage(weight.geometry, Memory());
        const Resident resident = cuda_resident(weight);
        cuda::resident_to_stored(resident.span, back.stored());
        CHECK(back.values.bytes == weight.values.bytes && back.positions.bytes == weight.positions.bytes);
        CHECK(back.scales.bytes == weight.scales.bytes);
    }
}

TEST(cuda_expand_writes_bytes_and_marks_what_is_pruned) {
    for (int round = 0; round < 20; ++round) {
        const DType dtype = harness::pick<DType>({DType::F8, DType::I8});
        const auto [n, m] = harness::pick(kPatterns);
        const int64_t cols = harness::pick<int64_t>({1, 3, 128, 129, 300}), rows = byte_rows(harness::pick<int64_t>({1, 16, 33, 70}), cols, n, m);
        Weight weight = random_nm(rows, cols, n, m, dtype, harness::integer(0, 1) == 1);
        const Geometry& g = weight.geometry;
        const Resident resident = cuda_resident(weight);
        const uint32_t layout = formats::open_resident(resident.span).layout;
        Memory dense(g.rows * g.cols), expected(g.rows * g.cols), ones(g.rows * g.cols);
        const auto expand = [&](bool marks_pruned) {
            const Span out = make_span(dense.data(), dtype, {g.rows, g.cols});
            cuda::expand_launch(cuda::expand_call(g, layout, resident.span, out, marks_pruned), dtype, 0);
        };
        stored_to_dense(weight.stored(), make_span(expected.data(), dtype, {g.rows, g.cols}));
        expand(false);
        CHECK(dense.bytes == expected.bytes);
        Weight kept = weight;
        std::fill(kept.values.bytes.begin(), kept.values.bytes.end(), uint8_t{1});
        stored_to_dense(kept.stored(), make_span(ones.data(), dtype, {g.rows, g.cols}));
        expand(true);
        for (size_t i = 0; i < dense.bytes.size(); ++i) {
            const bool was_negative_zero = expected.bytes[i] == 0x80;
            CHECK(dense.bytes[i] == (ones.bytes[i] == 0 ? 0x80 : was_negative_zero ? 0 : expected.bytes[i]));
        }
    }
}
