// Scored attention through its launch, on the emulator in all its schedules, against float64.
#include "cuda_prefill_run.h"

using namespace sparsecore;
using namespace weights;
using namespace prefill;

namespace {

Result run(Problem& p, Scores scores, const Lists& lists) {
    return run_by([&](const cuda::PrefillArgs& args) { cuda::prefill_launch(args, p.dtype, 0); }, p, scores, lists);
}

Result check_in_all_schedules(Problem& p, Scores scores = Scores::All) {
    return check_in_all_schedules_by([&](const cuda::PrefillArgs& args) { cuda::prefill_launch(args, p.dtype, 0); }, p, scores);
}

}  // namespace

TEST(cuda_prefill_on_tensor_cores_equals_the_double_reference) {
    const std::vector<int64_t> widths = {harness::integer(0, 32), 32, harness::pick<int64_t>({33, 64}), 64,
                                         harness::pick<int64_t>({80, 128}), harness::pick<int64_t>({129, 256})};
    for (const int64_t width : widths) {
        const bool wide = width > 64;
        const int64_t values = harness::integer(0, 1) ? width : harness::integer(0, width);
        Problem p = random_problem_of(random_half(), {1, harness::integer(1, 2), wide ? 1 : 2, harness::pick<int64_t>({1, 17, 65}),
                                                      harness::pick<int64_t>({1, 63, 70}), width, values});
        check_in_all_schedules(p);
    }
}

TEST(cuda_prefill_without_token_scores_gives_the_same) {
    Problem p = random_problem_of(random_half(), {1, 1, 2, harness::integer(1, 40), 64 * harness::integer(2, 3) - 3, 24, 24});
    const Result all = run(p, Scores::All, {});
    const Result other = check_in_all_schedules(p, Scores::Heads);
    CHECK(other.used.bytes == all.used.bytes);
    const int64_t row = p.shape.queries * p.shape.value_width;
    for (int64_t h = 0; h < 2; ++h) {
        int64_t units = 0;
        for (int64_t i = 0; i < row; ++i) {
            const float a = core::load_float(all.out.bytes.data(), h * row + i, p.dtype);
            const float b = core::load_float(other.out.bytes.data(), h * row + i, p.dtype);
            // Sums that were corrected on the way differ from those with the final weights in their last bits only.
            CHECK(std::fabs(a - b) <= 0.02f * (1.0f + std::fabs(a)));
            if (p.counts(0, i / p.shape.value_width)) units += std::llrint(std::fabs(static_cast<double>(b)) * cpu::kScoreOne);
        }
        CHECK(Result::get<int64_t>(other.heads, h) == units);
    }
    CHECK(run(p, Scores::None, {}).out.bytes == other.out.bytes);
}

TEST(cuda_prefill_without_tensor_cores_equals_the_double_reference) {
    for (const double keep : {1.0, 0.4, 0.01}) {
        const DType dtype = keep < 1.0 ? random_float_type() : DType::F32;
        Problem p = random_problem_of(dtype,
                                      {1, 1, 1, harness::pick<int64_t>({1, 7, 9}),
                                       harness::pick<int64_t>({1, 50, 64, 140}), harness::pick<int64_t>({1, 20, 33}),
                                       harness::pick<int64_t>({1, 20, 40})},
                                      keep);
        check_in_all_schedules(p);
    }
}

TEST(cuda_prefill_keeps_the_first_of_equal_values) {
    Problem p = random_problem_of(DType::F32, {1, 1, 1, 2, 70, 1, 1}, 0.5);
    p.has_mask = p.has_counted = p.causal = false;
    p.k = Tensor(1, 1, 70, 1, DType::F32, 0.0f);
    for (int64_t j = 0; j < 70; ++j) core::store_float(p.v.span.data, p.v.place(0, 0, j, 0), DType::F32, j < 35 ? 1.0f : 100.0f);
    const Result r = check_in_all_schedules(p);
    for (int64_t i = 0; i < 2; ++i) CHECK(std::fabs(core::load_float(r.out.bytes.data(), i, DType::F32) - 0.5f) < 1e-5f);
    CHECK(Result::get<int32_t>(r.used, 0) == 35);
}

TEST(cuda_prefill_on_hopper_equals_the_double_reference) {
    cuda::emulator::device().capability = 90;
    for (const int64_t width : {harness::pick<int64_t>({8, 64}), harness::pick<int64_t>({96, 128})}) {
        Problem p = random_problem_of(random_half(), {1, 1, width > 64 ? 1 : 2, harness::pick<int64_t>({65, 90}),
                                                      harness::pick<int64_t>({1, 64, 100, 200}), width, harness::pick<int64_t>({8, 64, width})});
        p.scale = 0.125f;
        check_in_all_schedules(p);
    }
    Problem p = random_problem_of(random_half(), {1, 1, 1, 130, 140, 64, 64});
    p.scale = 0.125f;
    const Result once = run(p, Scores::Heads, {});
    cuda::emulator::device().capability = 80;
    const Result other = run(p, Scores::Heads, {});
    CHECK(once.used.bytes == other.used.bytes);
    for (int64_t i = 0; i < 130 * 64; ++i) {
        const float a = core::load_float(once.out.bytes.data(), i, p.dtype), b = core::load_float(other.out.bytes.data(), i, p.dtype);
        CHECK(std::fabs(a - b) <= 0.02f * (1.0f + std::fabs(a)));
    }
}

// Keys that one token stands for, or that begin before the last one ends: no tensor map describes them.
TEST(cuda_prefill_on_hopper_takes_keys_that_overlap) {
    const harness::OnDevice device(90);
    for (const int64_t stride : {0, 8}) {
        Problem p = random_problem_of(random_half(), {1, 1, 1, harness::integer(65, 70), harness::pick<int64_t>({1, 70}), 16, 64});
        p.scale = 0.125f;
        harness::pick<Tensor*>({&p.k, &p.v})->span.strides[2] = stride;
        check_in_all_schedules(p);
    }
}

TEST(cuda_prefill_follows_block_lists) {
    for (int round = 0; round < 3; ++round) {
        cuda::emulator::device().capability = round == 0 ? 90 : 80;
        const DType dtype = round == 2 ? DType::F32 : random_half();
        Problem p = random_problem_of(dtype, {1, 1, 2, harness::integer(60, dtype == DType::F32 ? 70 : 140), harness::integer(100, 200), 8, 8});
        p.query_block = round == 0 ? 128 : harness::pick<int64_t>({64, 128}), p.key_block = harness::pick<int64_t>({64, 128});
        p.list_heads = harness::integer(1, 2);
        p.listed.resize(static_cast<size_t>(p.list_heads * p.query_blocks() * p.key_blocks()));
        for (uint8_t& listed : p.listed) listed = harness::integer(0, 2) > 0;
        if (round == 0) p.scale = 0.125f;  // the Hopper kernel takes no sign
        check_in_all_schedules(p);
    }
    cuda::emulator::device().capability = 80;
}

TEST(cuda_prefill_stays_inside_whatever_a_list_says) {
    Problem p = random_problem_of(random_half(), {1, 1, 1, 70, 70, 16, 16});
    p.query_block = p.key_block = 64;
    p.listed.assign(4, 1);
    Lists lists = lists_of(p);
    lists.indices[1] = 1 << 20, lists.indices[2] = -7;
    lists.offsets[2] = int64_t{1} << 40;
    run(p, Scores::All, lists);
}

TEST(cuda_prefill_keeps_unseen_values_and_nan_apart) {
    for (const DType dtype : {DType::F32, DType::BF16}) {
        Problem p = random_problem_of(dtype, {1, 1, 1, 20, 70, 8, 4});
        p.has_mask = true, p.has_counted = p.causal = false;
        p.mask_per_query = false, p.scale = 0.3f;
        p.mask = Memory(70);
        std::fill(p.mask.bytes.begin(), p.mask.bytes.end(), uint8_t{1});
        p.mask.bytes[66] = 0;
        core::store_float(p.v.span.data, p.v.place(0, 0, 66, 1), dtype, NAN);
        core::store_float(p.k.span.data, p.k.place(0, 0, 66, 1), dtype, INFINITY);
        core::store_float(p.v.span.data, p.v.place(0, 0, 3, 2), dtype, INFINITY);
        core::store_float(p.q.span.data, p.q.place(0, 0, 5, 0), dtype, NAN);
        for (const Scores scores : {Scores::All, Scores::Heads}) {
            const Result r = run(p, scores, {});
            for (int64_t i = 0; i < 20; ++i) {
                CHECK(std::isnan(Result::get<float>(r.lse, i)) == (i == 5));
                for (int64_t d = 0; d < 4; ++d) {
                    const float out = core::load_float(r.out.bytes.data(), i * 4 + d, dtype);
                    CHECK(i == 5 ? std::isnan(out) : d == 2 ? out == INFINITY : std::isfinite(out));
                }
            }
            int64_t units = 0;
            for (int64_t j = 0; j < 70; ++j) units += Result::get<int64_t>(r.tokens, j);
            CHECK(scores == Scores::Heads ? units == 0 : std::llabs(units - (int64_t{19} << 20)) < 19 * 70);
            CHECK(Result::get<int64_t>(r.heads, 0) > int64_t{19} * INT32_MAX);
            CHECK(Result::get<int32_t>(r.used, 0) == 69);
        }
    }
}

TEST(cuda_prefill_checks_its_arguments) {
    Problem p = random_problem_of(DType::BF16, {1, 1, 1, 70, 70, 8, 8});
    p.query_block = p.key_block = 64;
    p.listed.assign(4, 1);
    const Lists lists = lists_of(p);
    run(p, Scores::All, lists);
    p.query_block = 32;
    CHECK_ERROR("ShapeError", run(p, Scores::All, lists));
    p.query_block = 128;
    CHECK_ERROR("ShapeError", run(p, Scores::All, lists));
    p.query_block = 0, p.value_keep = 0.0;
    CHECK_ERROR("InvalidValueError", run(p, Scores::All, {}));
    p.value_keep = 1.0, p.shape.keys = 69;
    CHECK_ERROR("ShapeError", run(p, Scores::All, {}));
    p = random_problem_of(DType::F32, {1, 1, 1, 2, 2, 513, 1});
    CHECK_ERROR("ShapeError", run(p, Scores::All, {}));
}
