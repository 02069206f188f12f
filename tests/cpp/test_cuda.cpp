// The CUDA kernel's own source, run by the emulator: one fiber a thread.
#include <cmath>
#include <stdexcept>

#include "cpu/common/linear_prepare.h"
#include "cuda/emulator/emulator.h"
#include "cuda/nm_linear/kernel.h"
#include "cuda/nm_linear/nm_linear.h"
#include "linear_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

template <class T, int kTokens>
void emulate(const cuda::NmLinearArgs& args, cuda::LaneOrder order) {
    const auto rows = static_cast<unsigned>((args.rows + cuda::kWarpsPerBlock - 1) / cuda::kWarpsPerBlock);
    const auto tiles = static_cast<unsigned>((args.tokens + kTokens - 1) / kTokens);
    // Fewer blocks than token tiles: the kernel loops over the rest.
    cuda::emulator::launch({rows, tiles > 2 ? 2 : tiles}, cuda::kWarpsPerBlock * cuda::kWarpSize,
                           [&] { cuda::nm_linear_kernel<T, kTokens>(args); }, order);
}

template <class T>
void emulate_tokens(const cuda::NmLinearArgs& args, cuda::LaneOrder order) {
    if (args.tokens == 1) return emulate<T, 1>(args, order);
    if (args.tokens == 2) return emulate<T, 2>(args, order);
    emulate<T, 4>(args, order);
}

Memory run_emulated(LinearProblem& p, cuda::LaneOrder order) {
    const Geometry& g = p.weight.geometry;
    Resident resident(cuda::nm_resident_size(g.dtype, g.rows, g.cols, g.p0, g.p1));
    cuda::nm_resident_make(p.weight.stored(), resident.span);
    Memory out(p.tokens * g.rows * itemsize(g.dtype));
    const Span bias = make_span(p.bias.data(), g.dtype, {g.rows});
    const Span out_span = make_span(out.data(), g.dtype, {p.tokens, g.rows});
    const cuda::NmLinearArgs args =
        cuda::nm_linear_args(p.x.span, resident.span, g.p0, g.p1, p.has_bias ? &bias : nullptr, out_span,
                             cpu::parse_activation(p.activation));
    if (g.dtype == DType::F32) emulate_tokens<cuda::F32>(args, order);
    if (g.dtype == DType::F16) emulate_tokens<cuda::F16>(args, order);
    if (g.dtype == DType::BF16) emulate_tokens<cuda::BF16>(args, order);
    return out;
}

Weight random_weight() {
    const int64_t m = harness::pick<int64_t>({2, 4, 4, 8, 16, 17, 32});
    const int64_t n = m == 4 ? 2 : harness::integer(1, m - 1);
    return random_nm(harness::pick<int64_t>({0, 1, 3, 4, 5, 9}), harness::pick<int64_t>({1, 3, 16, 33, 100, 531}), n, m,
                     random_float_type(), harness::integer(0, 1) == 1);
}

}  // namespace

TEST(cuda_nm_linear_equals_the_double_reference_in_the_emulator) {
    for (int round = 0; round < 40; ++round) {
        LinearProblem p = random_problem(random_weight(), harness::pick<int64_t>({0, 1, 2, 3, 5, 9}));
        Memory out = run_emulated(p, cuda::LaneOrder::Forward);
        compare_linear(p, out);
        CHECK(run_emulated(p, cuda::LaneOrder::Reverse).bytes == out.bytes);
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
    const Memory out = run_emulated(p, cuda::LaneOrder::Forward);
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
        CHECK_ERROR("ResidentError", cpu::resident_open(resident.span));
    }
}

TEST(cuda_calls_check_their_arguments) {
    Weight weight = random_nm(6, 40, 2, 4, DType::F32, false);
    Resident resident(cuda::nm_resident_size(DType::F32, 6, 40, 2, 4));
    cuda::nm_resident_make(weight.stored(), resident.span);
    std::vector<float> x(80), out(12);
    const Span xs = make_span(x.data(), DType::F32, {2, 40}), os = make_span(out.data(), DType::F32, {2, 6});
    const auto call = [&](const Span& x_, int64_t n, int64_t m, const Span& out_) {
        cuda::nm_linear_args(x_, resident.span, n, m, nullptr, out_, cpu::Activation::None);
    };
    call(xs, 2, 4, os);
    CHECK_ERROR("ShapeError", call(xs, 1, 4, os));
    CHECK_ERROR("PatternError", call(xs, 4, 4, os));
    CHECK_ERROR("ShapeError", call(make_span(x.data(), DType::F32, {1, 40}), 2, 4, os));
    CHECK_ERROR("DtypeError", call(make_span(x.data(), DType::BF16, {2, 40}), 2, 4, os));
    CHECK_ERROR("AliasingError", call(xs, 2, 4, make_span(x.data(), DType::F32, {2, 6})));
}

TEST(emulator_reports_a_divergent_shuffle) {
    const auto launch = [](const std::function<void()>& kernel) { cuda::emulator::launch({1, 1}, 32, kernel); };
    bool thrown = false;
    try {
        launch([] {
            if (cuda::thread_x() != 3) cuda::shuffle_xor(1.0f, 1);
        });
    } catch (const std::runtime_error&) {
        thrown = true;
    }
    CHECK(thrown);
    thrown = false;
    try {
        launch([] { cuda::shuffle_xor(1.0f, cuda::thread_x() < 16 ? 1 : 2); });
    } catch (const std::runtime_error&) {
        thrown = true;
    }
    CHECK(thrown);
}
