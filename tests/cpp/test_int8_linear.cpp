#include "linear_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

Weight random_quantised(DType type) {
    const int64_t rows = random_size(), cols = harness::integer(0, 5) == 0 ? harness::integer(200, 900) : random_size();
    const double density = harness::pick<double>({0.0, 0.05, 0.3, 1.0});
    switch (harness::integer(0, 3)) {
        case 0: return random_nm(rows, cols, 2, 4, type, false);
        case 1: {
            const int64_t m = harness::integer(2, 32);
            return random_nm(rows, cols, harness::integer(1, m - 1), m, type, harness::integer(0, 1) == 1);
        }
        case 2: return random_bitmask(rows, cols, type, density);
        default:
            return random_block(rows, cols, harness::integer(1, 20), harness::integer(1, 20), type, density);
    }
}

struct Token {
    std::vector<double> values;
    float scale;
};

// The rule of docs/formats.md, written with the rounding of the C library.
Token quantise(const Span& x, int64_t token, DType type) {
    const auto at = [&](int64_t c) {
        return core::load_float(x.data, token * x.strides[0] + c * x.strides[1], x.dtype);
    };
    float amax = 0.0f;
    for (int64_t c = 0; c < x.shape[1]; ++c) amax = std::fmax(amax, std::fabs(at(c)));
    const float largest = type == DType::I8 ? 127.0f : 448.0f, scale = amax / largest == 0.0f ? 1.0f : amax / largest;
    Token out{{}, scale};
    for (int64_t c = 0; c < x.shape[1]; ++c) {
        const float quotient = std::clamp(at(c) / scale, -largest, largest);
        out.values.push_back(type == DType::I8 ? std::rint(quotient) : core::e4m3_to_f32(core::f32_to_e4m3(quotient)));
    }
    return out;
}

void check_call(Weight& weight, core::Isa isa, int64_t tokens, DType dtype, int threads) {
    const Geometry& g = weight.geometry;
    Activations x = random_activations(tokens, g.cols, dtype);
    Memory bias(g.rows * 4), out(tokens * g.rows * itemsize(dtype));
    auto* b = static_cast<float*>(bias.data());
    for (int64_t r = 0; r < g.rows; ++r) b[r] = harness::normal();
    const Span bias_span = make_span(bias.data(), DType::F32, {g.rows});
    Resident resident(cpu::resident_size(weight.stored(), isa));
    cpu::resident_make(weight.stored(), isa, resident.span);
    cpu::resident_validate(resident.span);
    cpu::packed_linear(x.span, resident.span, &bias_span, make_span(out.data(), dtype, {tokens, g.rows}), "none",
                       threads);
    const auto dense = [&](int64_t i) -> double {
        const uint8_t bits = weight.dense.bytes[static_cast<size_t>(i)];
        return g.dtype == DType::I8 ? static_cast<int8_t>(bits) : core::e4m3_to_f32(bits);
    };
    const auto* scales = static_cast<const float*>(weight.scales.data());
    for (int64_t t = 0; t < tokens; ++t) {
        const Token token = quantise(x.span, t, g.dtype);
        for (int64_t r = 0; r < g.rows; ++r) {
            double sum = 0;  // exact
            for (int64_t c = 0; c < g.cols; ++c) sum += dense(r * g.cols + c) * token.values[static_cast<size_t>(c)];
            Memory wanted(4);
            core::store_float(wanted.data(), 0, dtype, static_cast<float>(sum) * (token.scale * scales[r]) + b[r]);
            CHECK(core::load_float(out.data(), t * g.rows + r, dtype) == core::load_float(wanted.data(), 0, dtype));
        }
    }
}

}  // namespace

TEST(int8_linear_is_exact_on_every_isa) {
    for (int round = 0; round < 300; ++round) {
        Weight weight = random_quantised(DType::I8);
        const int64_t tokens = harness::pick<int64_t>({0, 1, 1, 2, 3, 4, 5, 8, 11, 12, 13, 16, 25, 40});
        const DType dtype = random_float_type();
        for (core::Isa isa : core::available_isas()) {
            check_call(weight, isa, tokens, dtype, static_cast<int>(harness::integer(1, 3)));
        }
    }
}

TEST(fp8_linear_is_rounded_once) {
    for (int round = 0; round < 100; ++round) {
        Weight weight = random_quantised(DType::F8);
        const core::Isa isa = core::available_isas().back();
        check_call(weight, isa, harness::pick<int64_t>({0, 1, 2, 9, 20}), random_float_type(), static_cast<int>(harness::integer(1, 3)));
    }
}

TEST(int8_linear_is_exact_over_long_rows) {
    for (int round = 0; round < 5; ++round) {
        const int64_t rows = harness::integer(17, 70), cols = harness::integer(300, 500) * 8;
        Weight weight = random_nm(rows, cols, harness::integer(1, 2), 4, DType::I8, false);
        for (core::Isa isa : core::available_isas()) check_call(weight, isa, harness::integer(33, 50), DType::BF16, 2);
    }
}

TEST(quantised_weights_come_back_from_every_layout) {
    for (int round = 0; round < 100; ++round) {
        Weight weight = random_quantised(round % 4 == 0 ? DType::F8 : DType::I8), back = with_storage(weight.geometry, Memory());
        for (core::Isa isa : core::available_isas()) {
            Resident resident(cpu::resident_size(weight.stored(), isa));
            cpu::resident_make(weight.stored(), isa, resident.span);
            cpu::resident_to_stored(resident.span, back.stored());
            CHECK(back.values.bytes == weight.values.bytes);
            CHECK(back.positions.bytes == weight.positions.bytes);
            CHECK(back.offsets.bytes == weight.offsets.bytes);
            CHECK(back.scales.bytes == weight.scales.bytes);
        }
    }
}

TEST(fp8_weights_with_bad_scales_or_values_are_refused) {
    Weight weight = random_bitmask(20, 40, DType::F8, 0.5);
    validate_stored(weight.stored());
    weight.values.bytes[weight.values.bytes.size() / 2] = harness::pick<uint8_t>({0x7f, 0xff});
    CHECK_ERROR("InvalidValueError", validate_stored(weight.stored()));
    weight = random_bitmask(20, 40, DType::F8, 0.5);
    static_cast<float*>(weight.scales.data())[harness::integer(0, 19)] = NAN;
    CHECK_ERROR("InvalidValueError", validate_stored(weight.stored()));
}

TEST(int8_weights_with_bad_scales_or_values_are_refused) {
    for (float bad : {0.0f, -1.0f, INFINITY, NAN}) {
        Weight weight = random_nm(20, 40, 2, 4, DType::I8, false);
        static_cast<float*>(weight.scales.data())[harness::integer(0, 19)] = bad;
        CHECK_ERROR("InvalidValueError", validate_stored(weight.stored()));
    }
    Weight weight = random_nm(20, 40, 2, 4, DType::I8, false);
    static_cast<int8_t*>(weight.values.data())[harness::integer(0, 399)] = -128;
    CHECK_ERROR("InvalidValueError", validate_stored(weight.stored()));
    CHECK_ERROR("ShapeError", formats::part_bytes({Kind::Bitmask, DType::I8, 1, formats::kMaxQuantisedCols + 1, 0, 0, 0, false}));
}
