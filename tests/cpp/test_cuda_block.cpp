// The CUDA kernels of block-sparse weights, run by the emulator in all its schedules.
#include "cuda/block_linear/block_linear.h"
#include "cuda/block_linear/layout.h"
#include "cuda_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

int64_t random_side() { return harness::pick<int64_t>({16, 32, 64, 128}); }

Weight random_weight(int64_t rows, int64_t cols, int64_t height, int64_t width) {
    return random_blocks(rows, cols, height, width, harness::pick<DType>({DType::BF16, DType::F16}),
                         harness::pick<double>({0.1, 0.4, 0.8}));
}

void check_on(int capability, int multiprocessors, LinearProblem& p) {
    const Geometry g = p.weight.geometry;
    const harness::OnDevice device(capability, multiprocessors);
    Memory out = run_in_all_schedules(p, [&](const Span& x, const Span& resident, const Span* bias, const Span& y, auto activation) {
        cuda::block_linear_launch(cuda::block_linear_call(x, resident, g.p0, g.p1, g.kept, bias, y, activation), g.dtype, 0);
    });
    compare_linear(p, out);
}

}  // namespace

TEST(cuda_block_decode_equals_the_double_reference_in_the_emulator) {
    for (int round = 0; round < 10; ++round) {
        Weight weight = random_weight(harness::pick<int64_t>({1, 16, 63, 130}), harness::pick<int64_t>({1, 33, 64, 200, 600}),
                                      random_side(), random_side());
        LinearProblem p = random_problem(std::move(weight), harness::pick<int64_t>({1, 2, 8, 9, 16}));
        if (harness::integer(0, 1)) p.x = aligned_activations(p.tokens, p.weight.geometry.cols, p.weight.geometry.dtype);
        check_on(80, 4, p);
    }
}

TEST(cuda_block_gemm_equals_the_double_reference_in_the_emulator) {
    for (const bool aligned : {true, true, true, false}) {
        Weight weight = random_weight(harness::pick<int64_t>({1, 65, 129, 200}), harness::pick<int64_t>({3, 64, 190, 256}),
                                      random_side(), random_side());
        LinearProblem p = random_problem(std::move(weight), harness::pick<int64_t>({17, 65, 130}));
        if (aligned) p.x = aligned_activations(p.tokens, p.weight.geometry.cols, p.weight.geometry.dtype);
        check_on(80, 4, p);
    }
}

// Three multiprocessors for four or more bands of 64 tokens: blocks of threads take several, and the ring goes on.
TEST(cuda_block_hopper_gemm_equals_the_double_reference_in_the_emulator) {
    for (int round = 0; round < 4; ++round) {
        const int64_t height = harness::pick<int64_t>({64, 128}), width = harness::pick<int64_t>({64, 128});
        const bool many_tokens = round == 0;
        Weight weight = random_weight(harness::pick<int64_t>({129, 200, 256}), harness::pick<int64_t>({3, 190, 300, 520}), height, width);
        LinearProblem p = random_problem(std::move(weight), many_tokens ? 129 : harness::pick<int64_t>({65, 100}));
        p.x = aligned_activations(p.tokens, p.weight.geometry.cols, p.weight.geometry.dtype);
        check_on(90, many_tokens ? 1 : 3, p);
    }
}

// One block row has nothing to do for longer than the ring is: it must free the stage that it multiplied last.
TEST(cuda_block_hopper_gemm_goes_on_where_one_block_row_is_pruned) {
    const int64_t cols = 64 * 8;
    Memory dense(128 * cols * 2);
    for (int64_t i = 0; i < 128 * cols; ++i) {
        const int64_t row = i / cols / 64, column = i % cols / 64;
        if (row == 0 || column == 0 || column == 7) set_value(dense.data(), i, DType::BF16, harness::normal());
    }
    Weight weight = blocks_of(128, cols, 64, 64, DType::BF16, std::move(dense));
    LinearProblem p = random_problem(std::move(weight), 20);
    p.x = aligned_activations(p.tokens, cols, DType::BF16);
    check_on(90, 4, p);
}

TEST(cuda_block_linear_on_hopper_takes_tokens_that_overlap) {
    for (int round = 0; round < 2; ++round) {
        LinearProblem p = random_problem(random_blocks(70, 200, 64, 64, DType::BF16, 0.4), harness::integer(17, 70));
        p.x = overlapping_activations(p.tokens, 200, DType::BF16);
        check_on(90, 4, p);
    }
}

TEST(cuda_block_linear_takes_weights_without_blocks) {
    for (const int capability : {80, 90}) {
        for (const int64_t tokens : {0, 1, 20}) {
            LinearProblem p = random_problem(random_blocks(70, 100, 64, 64, DType::BF16, 0.0), tokens);
            p.x = aligned_activations(tokens, 100, DType::BF16);
            check_on(capability, 4, p);
        }
    }
}

// What stands in pruned blocks is not read: an infinity there changes no result.
TEST(cuda_block_linear_ignores_inf_and_nan_where_pruned) {
    for (const int capability : {80, 90}) {
        for (const int64_t tokens : {1, 17}) {
            Weight weight = random_blocks(130, 200, 64, 64, DType::BF16, 0.4);
            LinearProblem p = random_problem(weight, tokens), poisoned = p;
            p.has_bias = poisoned.has_bias = false;
            p.activation = poisoned.activation = "none";
            p.x = aligned_activations(tokens, 200, DType::BF16);
            poisoned.x = aligned_activations(tokens, 200, DType::BF16);
            const int64_t column = harness::integer(0, 199), stride = p.x.span.strides[0];
            std::memcpy(poisoned.x.span.data, p.x.span.data, static_cast<size_t>(p.x.span.bytes));
            for (int64_t t = 0; t < tokens; ++t) {
                set_value(poisoned.x.span.data, t * stride + column, DType::BF16, harness::pick<float>({INFINITY, NAN}));
            }
            const harness::OnDevice device(capability);
            const auto run = [](const Span& x, const Span& resident, const Span* bias, const Span& y, auto activation) {
                const int64_t kept = formats::open_resident(resident).geometry.kept;
                cuda::block_linear_launch(cuda::block_linear_call(x, resident, 64, 64, kept, bias, y, activation), DType::BF16, 0);
            };
            const Memory clean = run_in_all_schedules(p, run), out = run_in_all_schedules(poisoned, run);
            const auto* columns = static_cast<const int32_t*>(weight.positions.data());
            const auto* offsets = static_cast<const int64_t*>(weight.offsets.data());
            for (int64_t i = 0; i < tokens * 130; ++i) {
                const int64_t row = i % 130 / 64;
                const bool kept = std::find(columns + offsets[row], columns + offsets[row + 1], column / 64) != columns + offsets[row + 1];
                const float before = core::load_float(clean.bytes.data(), i, DType::BF16);
                const float got = core::load_float(out.bytes.data(), i, DType::BF16);
                CHECK(kept ? !std::isfinite(got) : got == before);
            }
        }
    }
}

TEST(cuda_block_weight_comes_back_and_holds_little_more) {
    for (int round = 0; round < 60; ++round) {
        const bool tiled = harness::integer(0, 1) == 1;
        const int64_t height = tiled ? random_side() : harness::integer(1, 40), width = tiled ? random_side() : harness::integer(1, 40);
        Weight weight = random_blocks(random_size() * 3, random_size() * 3, height, width, random_float_type(), 0.4);
        const Geometry& g = weight.geometry;
        const Resident resident = cuda_resident(weight);
        const formats::PartBytes bytes = part_bytes(g);
        if (height * width >= 16) {
            CHECK(static_cast<double>(resident.span.bytes) <=
                  1.15 * static_cast<double>(bytes.values + bytes.positions + bytes.offsets) + 4096);
        }
        Weight back = with_storage(g, Memory());
        cuda::resident_to_stored(resident.span, back.stored());
        CHECK(back.values.bytes == weight.values.bytes && back.positions.bytes == weight.positions.bytes &&
              back.offsets.bytes == weight.offsets.bytes);
        cuda::resident_validate(resident.span);
    }
}

TEST(cuda_block_resident_tables_are_checked) {
    Weight weight = random_blocks(200, 300, 32, 64, DType::F16, 0.7);
    const Resident whole = cuda_resident(weight);
    const formats::Resident parts = formats::open_resident(whole.span);
    for (int section = 1; section < parts.section_count; ++section) {
        const int64_t words = parts.section_bytes[section] / 4;
        auto* word = parts.section<int32_t>(section) + harness::integer(0, words - 1);
        const int32_t right = *word;
        *word = right == 1 << 30 ? 0 : 1 << 30;
        CHECK_ERROR(section <= 2 ? "IndexTableError" : "ResidentError", cuda::resident_validate(whole.span));
        *word = right;
    }
    cuda::resident_validate(whole.span);
}

TEST(cuda_block_calls_check_their_arguments) {
    Weight weight = random_blocks(64, 64, 32, 32, DType::BF16, 1.0);
    const Resident resident = cuda_resident(weight);
    std::vector<uint16_t> x(128), out(128);
    const Span xs = make_span(x.data(), DType::BF16, {2, 64}), os = make_span(out.data(), DType::BF16, {2, 64});
    const auto call = [&](const Span& x_, int64_t height, int64_t kept, const Span& out_) {
        cuda::block_linear_call(x_, resident.span, height, 32, kept, nullptr, out_, cpu::Activation::None);
    };
    call(xs, 32, 4, os);
    CHECK_ERROR("ShapeError", call(xs, 32, 3, os));
    CHECK_ERROR("ShapeError", call(xs, 32, -1, os));
    CHECK_ERROR("UnsupportedError", call(xs, 24, 4, os));
    CHECK_ERROR("ShapeError", call(xs, 32, 4, make_span(out.data(), DType::BF16, {1, 64})));
    CHECK_ERROR("DtypeError", call(xs, 32, 4, make_span(out.data(), DType::F16, {2, 64})));
    CHECK_ERROR("AliasingError", call(xs, 32, 4, make_span(x.data(), DType::BF16, {2, 64})));
}
