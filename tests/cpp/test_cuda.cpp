// The CUDA kernels' own source, run by the emulator in all its schedules: one fiber a thread.
#include <cmath>

#include "cuda/nm_linear/kernel.h"
#include "cuda/nm_linear/two_four/layout.h"
#include "cuda/nm_linear/two_four/sm80_gemm.h"
#include "cuda/nm_linear/two_four/sm90_gemm.h"
#include "cuda_problem.h"
#include "emulated_linear.h"

using namespace sparsecore;
using namespace weights;

namespace {

template <class T, int kTokens>
void emulate_general(const cuda::NmLinearArgs& args, Schedule schedule) {
    const cuda::emulator::Launch shape{{blocks(args.rows, cuda::kWarpsPerBlock), at_most_two(blocks(args.tokens, kTokens))},
                                       cuda::kWarpsPerBlock * cuda::kWarpSize};
    cuda::emulator::launch(shape, schedule, [&] { cuda::nm_linear_kernel<T, kTokens>(args); });
}

template <class T>
void emulate(const cuda::NmLinearArgs& args, Schedule schedule) {
    if (args.tokens == 1) return emulate_general<T, 1>(args, schedule);
    if (args.tokens == 2) return emulate_general<T, 2>(args, schedule);
    emulate_general<T, 4>(args, schedule);
}

template <class T>
void emulate(const cuda::TwoFourArgs& args, Schedule schedule) {
    const cuda::emulator::Launch shape{{blocks(args.rows, cuda::kGemmRows), at_most_two(blocks(args.tokens, cuda::kGemmTokens))},
                                       cuda::kGemmThreads,
                                       sizeof(cuda::GemmShared)};
    cuda::emulator::launch(shape, schedule, [&] { cuda::sm80_two_four_gemm<T>(args); });
}

template <class T, int kTokens>
void emulate_sm90(const cuda::TwoFourArgs& args, unsigned cluster, Schedule schedule) {
    const cuda::TensorMap map{static_cast<const uint16_t*>(args.x), args.cols, args.tokens, args.x_token_stride,
                              kTokens / static_cast<int>(cluster)};
    const cuda::emulator::Launch shape{{blocks(args.rows, cuda::kSm90Rows * cluster) * cluster, blocks(args.tokens, kTokens)},
                                       cuda::kSm90Threads,
                                       sizeof(cuda::Sm90Shared<kTokens>),
                                       cluster};
    cuda::emulator::launch(shape, schedule, [&] { cuda::sm90_two_four_gemm<T, kTokens>(args, map); });
}

// The kernel for arguments of this type, on the weight's element type.
template <class Args>
auto runner(const LinearProblem& p) {
    return [dtype = p.weight.geometry.dtype](const Args& args, Schedule schedule) {
        if constexpr (std::is_same_v<Args, cuda::NmLinearArgs>) {
            if (dtype == DType::F32) return emulate<cuda::F32>(args, schedule);
        }
        dtype == DType::F16 ? emulate<cuda::F16>(args, schedule) : emulate<cuda::BF16>(args, schedule);
    };
}

// Patterns and types that no kernel on tiles is for.
Weight random_general_weight() {
    const int64_t m = harness::pick<int64_t>({2, 4, 4, 8, 16, 17, 32});
    const int64_t n = m == 8 ? harness::integer(3, 7) : harness::integer(1, m - 1);
    return random_nm(harness::pick<int64_t>({0, 1, 3, 4, 5, 9}), harness::pick<int64_t>({1, 3, 16, 33, 100, 531}), n, m,
                     m == 4 && n < 3 ? DType::F32 : random_float_type(), harness::integer(0, 1) == 1);
}

Weight random_weight() {
    const auto [n, m] = harness::pick<std::pair<int64_t, int64_t>>({{2, 4}, {1, 4}, {1, 8}, {2, 8}, {5, 8}, {3, 17}, {9, 16}});
    return random_nm(harness::pick<int64_t>({0, 1, 3, 16, 37}), harness::pick<int64_t>({0, 1, 3, 16, 33, 100, 531}), n, m,
                     random_float_type(), harness::integer(0, 1) == 1);
}

int64_t two_four_rows(int64_t rows, int64_t cols) {
    return fitting_rows(rows, [&](int64_t some) { return cuda::is_two_four(DType::BF16, some, cols, 2, 4); });
}

}  // namespace

TEST(cuda_nm_linear_equals_the_double_reference_in_the_emulator) {
    for (int round = 0; round < 30; ++round) {
        LinearProblem p = random_problem(random_general_weight(), harness::pick<int64_t>({0, 1, 2, 3, 5, 9}));
        if (p.tokens * p.weight.geometry.rows > 0) check_in_all_schedules<cuda::NmLinearArgs>(p, runner<cuda::NmLinearArgs>(p));
    }
}

TEST(cuda_two_four_gemm_equals_the_double_reference_in_the_emulator) {
    for (const bool in_units : {true, true, false, false}) {
        const int64_t cols = in_units ? harness::pick<int64_t>({8, 64, 200, 256}) : harness::pick<int64_t>({0, 3, 64, 190});
        Weight weight = random_nm(two_four_rows(harness::pick<int64_t>({1, 65, 128, 130}), cols), cols, 2, 4,
                                  harness::pick<DType>({DType::BF16, DType::F16}), harness::integer(0, 1) == 1);
        LinearProblem p = random_problem(std::move(weight), harness::pick<int64_t>({1, 17, 65, 130}));
        while (in_units && p.x.span.strides[1] != 1) p.x = random_activations(p.tokens, cols, p.weight.geometry.dtype);
        check_in_all_schedules<cuda::TwoFourArgs>(p, runner<cuda::TwoFourArgs>(p));
    }
}

TEST(cuda_two_four_hopper_gemm_equals_the_double_reference_in_the_emulator) {
    for (int round = 0; round < 3; ++round) {
        const DType dtype = harness::pick<DType>({DType::BF16, DType::F16});
        const int64_t cols = harness::pick<int64_t>({3, 190, 330, 450, 700}), rows = two_four_rows(harness::pick<int64_t>({1, 65, 130}), cols);
        const unsigned cluster = harness::pick<unsigned>({1, 2, 4});
        const int64_t stride = (cols + 7) / 8 * 8;
        LinearProblem p = random_problem(random_nm(rows, cols, 2, 4, dtype, true), harness::pick<int64_t>({1, 17, 64, 130}));
        std::vector<uint16_t> memory(static_cast<size_t>(p.tokens * stride + 8));
        auto* x = reinterpret_cast<uint16_t*>((reinterpret_cast<uintptr_t>(memory.data()) + 15) / 16 * 16);
        for (int64_t i = 0; i < p.tokens * stride; ++i) set_value(x, i, dtype, harness::normal());
        p.x.span = make_span(x, dtype, {p.tokens, cols});
        p.x.span.strides[0] = stride;
        p.x.span.bytes = p.tokens * stride * 2;
        Memory first(0);
        for (const Schedule schedule : cuda::emulator::kSchedules) {
            Resident resident(cuda::nm_resident_size(dtype, rows, cols, 2, 4));
            cuda::nm_resident_make(p.weight.stored(), resident.span);
            Memory out(p.tokens * rows * 2);
            const Span bias = make_span(p.bias.data(), dtype, {rows});
            const auto args = std::get<cuda::TwoFourArgs>(
                cuda::nm_linear_call(p.x.span, resident.span, 2, 4, p.has_bias ? &bias : nullptr,
                                     make_span(out.data(), dtype, {p.tokens, rows}), cpu::parse_activation(p.activation)));
            if (dtype == DType::BF16) emulate_sm90<cuda::BF16, 64>(args, cluster, schedule);
            if (dtype == DType::F16) emulate_sm90<cuda::F16, 128>(args, cluster, schedule);
            if (first.bytes.empty()) compare_linear(p, out);
            CHECK(first.bytes.empty() || first.bytes == out.bytes);
            first = out;
        }
    }
}

TEST(cuda_two_four_on_hopper_takes_tokens_that_overlap) {
    const harness::OnDevice device(90);
    for (int round = 0; round < 2; ++round) {
        const DType dtype = harness::pick<DType>({DType::BF16, DType::F16});
        LinearProblem p = random_problem(random_nm(128, 256, 2, 4, dtype, true), harness::integer(17, 70));
        p.x = overlapping_activations(p.tokens, 256, dtype);
        check_in_all_schedules<cuda::TwoFourArgs>(p, [&](const auto& args, Schedule schedule) {
            cuda::emulator::device().schedule = schedule;
            cuda::nm_linear_launch(args, dtype, 0);
        });
    }
}

TEST(cuda_nm_linear_ignores_inf_and_nan_where_pruned) {
    Weight weight = random_nm(6, 40, 2, 4, DType::F32, false);
    const auto* dense = static_cast<const float*>(weight.dense.data());
    // Often the last one, on which the padding of a row would fall.
    const int64_t column = harness::pick<int64_t>({harness::integer(0, 39), 39});
    LinearProblem p = random_problem(weight, 1);
    p.has_bias = false;
    p.activation = "none";
    p.x.span = make_span(p.x.memory.data(), DType::F32, {1, 40});
    p.x.span.as<float>()[column] = NAN;
    const Memory out = run_emulated<cuda::NmLinearArgs>(p, [&](const auto& args) { emulate<cuda::F32>(args, {}); });
    for (int64_t row = 0; row < 6; ++row) {
        const bool kept = formats::test_bit(weight.positions.bytes.data() + row * 5, column);
        const float got = core::load_float(out.bytes.data(), row, DType::F32);
        CHECK(kept || std::isfinite(got));
        if (dense[row * 40 + column] != 0.0f) CHECK(std::isnan(got));
    }
}

TEST(cuda_resident_round_trips) {
    for (int round = 0; round < 40; ++round) {
        Weight weight = random_weight();
        const Geometry& g = weight.geometry;
        Resident resident(cuda::nm_resident_size(g.dtype, g.rows, g.cols, g.p0, g.p1));
        cuda::nm_resident_make(weight.stored(), resident.span);
        Weight back = with_storage(g, Memory());
        cuda::nm_resident_to_stored(resident.span, back.stored());
        CHECK(back.values.bytes == weight.values.bytes && back.positions.bytes == weight.positions.bytes);
    }
}

TEST(cuda_calls_check_their_arguments) {
    Weight weight = random_nm(6, 40, 2, 4, DType::F32, false);
    Resident resident(cuda::nm_resident_size(DType::F32, 6, 40, 2, 4));
    cuda::nm_resident_make(weight.stored(), resident.span);
    std::vector<float> x(80), out(12);
    const Span xs = make_span(x.data(), DType::F32, {2, 40}), os = make_span(out.data(), DType::F32, {2, 6});
    const auto call = [&](const Span& x_, int64_t n, int64_t m, const Span& out_) {
        cuda::nm_linear_call(x_, resident.span, n, m, nullptr, out_, cpu::Activation::None);
    };
    call(xs, 2, 4, os);
    CHECK_ERROR("ShapeError", call(xs, 1, 4, os));
    CHECK_ERROR("PatternError", call(xs, 4, 4, os));
    CHECK_ERROR("ShapeError", call(make_span(x.data(), DType::F32, {1, 40}), 2, 4, os));
    CHECK_ERROR("DtypeError", call(make_span(x.data(), DType::BF16, {2, 40}), 2, 4, os));
    CHECK_ERROR("AliasingError", call(xs, 2, 4, make_span(x.data(), DType::F32, {2, 6})));
}
