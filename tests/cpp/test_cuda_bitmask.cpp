// The CUDA kernel of unstructured weights, run by the emulator in all its schedules.
#include "cuda/bitmask_linear/bitmask_linear.h"
#include "cuda_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

void run(const Span& x, const Span& resident, const Span* bias, const Span& y, cpu::Activation activation) {
    const int64_t kept = formats::open_resident(resident).geometry.kept;
    cuda::bitmask_linear_launch(cuda::bitmask_linear_call(x, resident, kept, bias, y, activation), x.dtype, 0);
}

DType random_half() { return harness::pick<DType>({DType::BF16, DType::F16}); }

// One that fills its tiles well enough to be laid out in them.
Weight tiled_weight(int64_t cols) {
    for (;;) {
        Weight weight = random_bitmask(harness::pick<int64_t>({1, 7, 16, 33}), cols, random_half(), harness::pick<double>({0.02, 0.3, 0.5, 1.0}));
        if (cuda::is_cuda_layout(formats::open_resident(cuda_resident(weight).span))) return weight;
    }
}

}  // namespace

TEST(cuda_bitmask_decode_equals_the_double_reference_in_the_emulator) {
    for (int round = 0; round < 10; ++round) {
        const int64_t cols = round == 0 ? 2100 : harness::pick<int64_t>({0, 1, 3, 33, 64, 65, 200, 700});
        Weight weight = tiled_weight(cols);
        LinearProblem p = random_problem(std::move(weight), harness::pick<int64_t>({1, 2, 8, 9, 16, 35}));
        if (harness::integer(0, 1)) p.x = aligned_activations(p.tokens, cols, p.weight.geometry.dtype);
        Memory out = run_in_all_schedules(p, run);
        compare_linear(p, out);
    }
}

// mma multiplies the zeros of pruned positions: sums that an infinity there has spoilt are made anew.
TEST(cuda_bitmask_decode_ignores_inf_and_nan_where_pruned) {
    for (int round = 0; round < 4; ++round) {
        const DType dtype = random_half();
        Weight weight = random_bitmask(20, 150, dtype, 0.5);
        LinearProblem p = random_problem(weight, 3);
        p.has_bias = false;
        p.activation = "none";
        p.x = aligned_activations(3, 150, dtype);
        const int64_t column = harness::integer(0, 149), stride = p.x.span.strides[0];
        const float clean = core::load_float(p.x.span.data, stride + column, dtype);
        set_value(p.x.span.data, stride + column, dtype, harness::pick<float>({INFINITY, -INFINITY, NAN}));
        const Memory out = run_in_all_schedules(p, run);
        set_value(p.x.span.data, stride + column, dtype, clean);
        for (int64_t row = 0; row < 20; ++row) {
            if (core::load_float(weight.dense.data(), row * 150 + column, dtype) != 0.0f) {
                CHECK(!std::isfinite(core::load_float(out.bytes.data(), 20 + row, dtype)));
                continue;
            }
            double sum = 0.0, size = 0.0;
            for (int64_t c = 0; c < 150; ++c) {
                const double product = static_cast<double>(core::load_float(weight.dense.data(), row * 150 + c, dtype)) *
                                       core::load_float(p.x.span.data, stride + c, dtype);
                sum += product;
                size += std::fabs(product);
            }
            CHECK(std::fabs(core::load_float(out.bytes.data(), 20 + row, dtype) - sum) <= tolerance(dtype, sum, size, 150));
        }
    }
}

TEST(cuda_bitmask_weight_comes_back_and_holds_little_more) {
    for (int round = 0; round < 40; ++round) {
        Weight weight = random_bitmask(random_size(), random_size() * 3, random_float_type(), harness::pick<double>({0.0, 0.1, 0.5, 1.0}));
        const Resident resident = cuda_resident(weight);
        Weight back = with_storage(weight.geometry, Memory());
        cuda::resident_to_stored(resident.span, back.stored());
        CHECK(back.values.bytes == weight.values.bytes && back.positions.bytes == weight.positions.bytes &&
              back.offsets.bytes == weight.offsets.bytes);
        cuda::resident_validate(resident.span);
    }
    for (const double density : {0.05, 0.3, 0.5}) {
        Weight weight = random_bitmask(160, 640, DType::BF16, density);
        const formats::PartBytes bytes = part_bytes(weight.geometry);
        const Resident resident = cuda_resident(weight);
        CHECK(static_cast<double>(resident.span.bytes) <= 1.25 * static_cast<double>(bytes.values + bytes.positions + bytes.offsets) + 4096);
    }
}

TEST(cuda_bitmask_resident_masks_and_starts_are_checked) {
    Weight weight = random_bitmask(40, 100, DType::F16, 0.4);
    const Resident whole = cuda_resident(weight);
    const formats::Resident parts = formats::open_resident(whole.span);
    for (int section = 1; section < parts.section_count; ++section) {
        auto* word = parts.section<uint32_t>(section) + harness::integer(0, parts.section_bytes[section] / 4 - 1);
        *word ^= 1;  // one value more, less or elsewhere
        CHECK_ERROR("ResidentError", cuda::resident_validate(whole.span));
        *word ^= 1;
    }
    cuda::resident_validate(whole.span);
}

TEST(cuda_bitmask_calls_check_their_arguments) {
    Weight weight = random_bitmask(32, 64, DType::BF16, 0.5);
    const Resident resident = cuda_resident(weight);
    const int64_t kept = weight.geometry.kept;
    std::vector<float> x(128), out(64);
    const auto call = [&](int64_t count, DType dtype, int64_t tokens) {
        cuda::bitmask_linear_call(make_span(x.data(), dtype, {2, 64}), resident.span, count, nullptr,
                                  make_span(out.data(), dtype, {tokens, 32}), cpu::Activation::None);
    };
    call(kept, DType::BF16, 2);
    CHECK_ERROR("ShapeError", call(kept + 64, DType::BF16, 2));
    CHECK_ERROR("ShapeError", call(-1, DType::BF16, 2));
    CHECK_ERROR("ShapeError", call(kept, DType::BF16, 1));
    CHECK_ERROR("UnsupportedError", call(kept, DType::F32, 2));
}
