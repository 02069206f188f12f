// Top-k on the emulator, in all its schedules, against a stable sort: by the launch functions, and with blocks of few threads so
// that rows of some thousands are long ones.
#include "cuda/emulator/device.h"
#include "cuda/topk/launch.h"
#include "topk_rows.h"

using namespace sparsecore;
using namespace weights;
using cuda::emulator::kSchedules;
using cuda::emulator::Schedule;

namespace {

constexpr int kFew = 64;  // threads of a block, which then holds 1024 candidates
constexpr int64_t kHeld = kFew * cuda::candidate_items(4), kWanted = kHeld - kFew * cuda::kTileItems;

// Rows with gaps between them, from any element of 16 bytes on; `shape` 0: as random_rows, else ascending, equal, NaN of both signs.
Rows gapped_rows(int64_t rows, int64_t n, DType dtype, int64_t shape = 0) {
    const int64_t lead = harness::integer(0, 7), stride = n + lead + harness::integer(0, 3);
    Rows x = random_rows(rows, stride, dtype);
    for (int64_t i = 0; shape > 0 && i < rows * stride; ++i) {
        const auto rising = static_cast<float>(i % stride);
        set_value(x.memory.data(), i, dtype, shape == 1 ? rising : shape == 2 ? 1.0f : i % 3 == 0 ? NAN : -NAN);
    }
    x.span = make_span(x.memory.bytes.data() + lead * itemsize(dtype), dtype, {rows, n});
    x.span.strides[0] = stride;
    x.span.bytes = static_cast<int64_t>(x.memory.bytes.size()) - lead * itemsize(dtype);
    return x;
}

template <class Body>
void with_element(DType dtype, Body&& body) {
    if (dtype == DType::F32) body(cuda::F32{});
    if (dtype == DType::F16) body(cuda::F16{});
    if (dtype == DType::BF16) body(cuda::BF16{});
    if (dtype == DType::I64) body(cuda::I64{});
}

// Runs a call: by its plan, or by the kernels of a method with few threads.
struct Runner {
    bool few = false;
    cuda::TopkPlan plan{};

    void operator()(const cuda::TopkArgs& args, DType dtype) const {
        if (few) return with_element(dtype, [&](auto element) { run_few<decltype(element)>(args); });
        Memory workspace(cuda::topk_workspace(dtype, args.rows, args.n, args.k));
        const auto bytes = static_cast<int64_t>(workspace.bytes.size());
        cuda::topk_launch(args, dtype, make_span(workspace.data(), DType::U8, {bytes}), 0);
    }

private:
    template <class T>
    void run_few(const cuda::TopkArgs& a) const {
        constexpr auto kShared = sizeof(cuda::Store<T, kFew>);
        if (plan.method == cuda::TopkMethod::Block) {
            return cuda::launch("test", cuda::block_topk<T, kFew>, {2}, kFew, kShared, 0, a);
        }
        const auto finds_number = static_cast<size_t>(a.rows * plan.pieces * a.k);
        // What is not written would be taken.
        std::vector<cuda::KeyElement<T>> keys(finds_number, {cuda::Order<T>::kLargest});
        std::vector<uint32_t> positions(finds_number);
        const cuda::Finds<T> finds{keys.data(), positions.data(), plan.pieces, plan.piece_length};
        const cuda::Grid grid{static_cast<unsigned>(plan.pieces), 1};
        cuda::launch("test", cuda::piece_topk<T, kFew>, grid, kFew, kShared, 0, a, finds);
        cuda::launch("test", cuda::merge_topk<T, kFew>, {2}, kFew, kShared, 0, a, finds);
    }
};

void check_rows(const Rows& x, int64_t k, const Runner& run) {
    const DType dtype = x.span.dtype;
    const int64_t rows = x.span.shape[0], n = x.span.shape[1], item = itemsize(dtype);
    Memory values(rows * k * item), indices(rows * k * 8), threshold(rows * item);
    run(cuda::topk_select_call(x.span, k, make_span(values.data(), dtype, {rows, k}),
                               make_span(indices.data(), DType::I64, {rows, k})),
        dtype);
    if (k > 0) run(cuda::topk_threshold_call(x.span, k, make_span(threshold.data(), dtype, {rows})), dtype);
    for (int64_t row = 0; row < rows; ++row) {
        const std::vector<int64_t> expected = expected_indices(x, row, n, k);
        const auto* found = static_cast<const int64_t*>(indices.data()) + row * k;
        CHECK(std::equal(expected.begin(), expected.end(), found));
        float least = INFINITY;
        bool number = false;
        for (int64_t i = 0; i < k; ++i) {
            const auto* from = x.span.as<const char>() + (row * x.span.strides[0] + expected[static_cast<size_t>(i)]) * item;
            CHECK(std::memcmp(values.bytes.data() + (row * k + i) * item, from, static_cast<size_t>(item)) == 0);
            const float value = x.at(row, expected[static_cast<size_t>(i)]);
            if (!std::isnan(value)) least = std::min(least, value), number = true;
        }
        if (k == 0) continue;
        const float got = core::load_float(threshold.data(), row, dtype);
        CHECK(number ? got == least && !(got == 0.0f && std::signbit(got)) : std::isnan(got));
    }
}

void check_in_all_schedules(const Rows& x, int64_t k, const Runner& run = {}) {
    for (const Schedule schedule : kSchedules) {
        cuda::emulator::device().schedule = schedule;
        check_rows(x, k, run);
    }
    cuda::emulator::device().schedule = {};
}

void check_once(const Rows& x, int64_t k, const Runner& run = {}) {
    cuda::emulator::device().schedule = kSchedules[static_cast<size_t>(harness::integer(0, 5))];
    check_rows(x, k, run);
    cuda::emulator::device().schedule = {};
}

// Scores of a ragged batch: float rows, or integers of a range.
Rows random_scores(int64_t rows, int64_t n, DType dtype) {
    if (dtype != DType::I64) return gapped_rows(rows, n, dtype);
    Rows x{Memory(rows * n * 8), {}};
    const int64_t most = harness::pick<int64_t>({1, 1 << 20, INT64_MAX});
    for (int64_t i = 0; i < rows * n; ++i) {
        x.span.data = x.memory.data();
        x.span.as<int64_t>()[i] = harness::integer(0, 20) == 0 ? INT64_MIN : harness::integer(-most, most);
    }
    x.span = make_span(x.memory.data(), dtype, {rows, n});
    return x;
}

std::vector<int64_t> expected_slots(const Rows& x, int64_t row, int64_t n, int64_t k) {
    if (x.span.dtype != DType::I64) return expected_indices(x, row, n, k);
    const int64_t* scores = x.span.as<const int64_t>() + row * x.span.strides[0];
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
    order.resize(static_cast<size_t>(k));
    std::sort(order.begin(), order.end());
    return order;
}

// Counts and numbers to keep are sometimes senseless, which must lead nowhere outside of a row.
void check_ragged(int64_t rows, int64_t n, int64_t width, const Runner& run) {
    const DType dtype = harness::pick<DType>({DType::I64, DType::I64, DType::F32});
    const Rows x = random_scores(rows, n, dtype);
    std::vector<int64_t> counts, keep, index(static_cast<size_t>(rows * width));
    for (int64_t row = 0; row < rows; ++row) {
        counts.push_back(harness::pick<int64_t>({n, harness::integer(0, n), harness::integer(0, n), n + 2, -2}));
        keep.push_back(harness::integer(0, 5) == 0 ? harness::integer(-2, n + 2) : harness::integer(0, std::min(width, n)));
    }
    for (const Schedule schedule : kSchedules) {
        cuda::emulator::device().schedule = schedule;
        std::fill(index.begin(), index.end(), -1);
        run(cuda::ragged_topk_call(x.span, make_span(counts.data(), DType::I64, {rows}), make_span(keep.data(), DType::I64, {rows}),
                                   make_span(index.data(), DType::I64, {rows, width})),
            dtype);
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t count = std::clamp<int64_t>(counts[static_cast<size_t>(row)], 0, n);
            const int64_t kept = std::clamp<int64_t>(keep[static_cast<size_t>(row)], 0, std::min(count, width));
            std::vector<int64_t> expected = expected_slots(x, row, count, kept);
            expected.resize(static_cast<size_t>(width));
            CHECK(std::equal(expected.begin(), expected.end(), index.begin() + row * width));
        }
    }
    cuda::emulator::device().schedule = {};
}

const Runner kBlocks{true, {cuda::TopkMethod::Block, 1, 0, 0, 0}};
Runner pieces_of(int64_t n, int64_t number) {
    const int64_t length = (n - harness::integer(0, 40)) / number;  // the last piece is short
    return {true, {cuda::TopkMethod::Pieces, (n + length - 1) / length, length, 0, 0}};
}

}  // namespace

TEST(cuda_topk_of_short_rows) {
    check_in_all_schedules(gapped_rows(2, 100, DType::F32, 3), 30);
    for (int round = 0; round < 20; ++round) {
        const int64_t n = harness::pick<int64_t>({0, 1, 2, 31, 32, 33, 100, 1000, 1023, 1024});
        const int64_t k = harness::pick<int64_t>({0, std::min<int64_t>(n, 1), n / 10, n / 2, n});
        check_in_all_schedules(gapped_rows(harness::integer(0, 6), n, random_float_type(), harness::integer(0, 9) / 7), k);
    }
}

TEST(cuda_topk_of_rows_that_a_block_holds) {
    for (int round = 0; round < 10; ++round) {
        const int64_t n = harness::pick<int64_t>({1, 31, 100, 1000, kHeld - 1, kHeld});
        check_in_all_schedules(gapped_rows(3, n, random_float_type(), harness::integer(0, 3)), harness::integer(1, n), kBlocks);
    }
}

TEST(cuda_topk_of_long_rows_in_one_pass) {
    for (int64_t round = 0; round < 4; ++round) {
        const int64_t n = harness::pick<int64_t>({kHeld + 1, kHeld + 7, 3000, 8193});
        const int64_t k = harness::pick<int64_t>({1, 3, harness::integer(1, kWanted), kWanted});
        check_in_all_schedules(gapped_rows(2, n, random_float_type(), round), k, kBlocks);
    }
}

// More than 2^16 positions, which are ordered in windows.
TEST(cuda_topk_of_very_long_rows) { check_once(gapped_rows(1, 140001, random_float_type()), harness::integer(1, 300), kBlocks); }

TEST(cuda_topk_of_rows_in_pieces) {
    for (int64_t round = 0; round < 4; ++round) {
        const int64_t n = harness::integer(3000, 6000), k = harness::integer(1, kWanted);
        check_in_all_schedules(gapped_rows(1, n, random_float_type(), round), k, pieces_of(n, harness::integer(2, 4)));
    }
}

// Every launch function as it is: 512 threads, digits in several launches, the choice between them.
TEST(cuda_topk_by_its_plan) {
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) check_once(gapped_rows(1, 8192, dtype), harness::integer(1, 8192));
    check_once(gapped_rows(2, 8193, random_float_type()), harness::integer(1, 4096));
    check_once(gapped_rows(1, 70001, random_float_type()), harness::integer(1, 500));
    check_in_all_schedules(gapped_rows(1, 9001, random_float_type(), 0), harness::integer(4097, 9001));
    for (int64_t shape = 1; shape < 4; ++shape) check_once(gapped_rows(1, 9001, DType::F32, shape), harness::integer(4097, 9000));
    check_once(gapped_rows(2, 20001, DType::F32), 20001);
}

TEST(cuda_ragged_topk_keeps_its_own_number_of_each_row) {
    for (int round = 0; round < 10; ++round) {
        const int64_t n = harness::pick<int64_t>({0, 1, 33, 500, 1024});
        check_ragged(harness::integer(1, 5), n, harness::pick<int64_t>({1, n / 2, n + 3}), {});
    }
    for (int round = 0; round < 2; ++round) {
        check_ragged(2, harness::integer(1, 3000), harness::integer(1, kFew * 6), kBlocks);
        const int64_t n = harness::integer(2000, 4000);
        check_ragged(2, n, harness::integer(1, kFew * 6), pieces_of(n, 3));
    }
    check_ragged(2, harness::integer(7169, 9000), 5000, {});
}

TEST(cuda_topk_plans_read_long_rows_once) {
    using cuda::TopkMethod;
    const auto plan = [](int64_t rows, int64_t n, int64_t k) { return cuda::topk_plan(DType::F32, rows, n, k, 132); };
    CHECK(plan(1, 1024, 1024).method == TopkMethod::Warp);
    CHECK(plan(1, 8192, 8192).method == TopkMethod::Block && plan(1, 8192, 1).workspace_bytes == 0);
    CHECK(plan(256, 262144, 2048).method == TopkMethod::Block);
    const auto one = plan(1, int64_t{1} << 22, 2048);
    CHECK(one.method == TopkMethod::Pieces && one.pieces == 128 && one.workspace_bytes == 128 * 2048 * 8);
    CHECK(plan(1000, int64_t{1} << 31, 64).method == TopkMethod::Pieces);  // positions of a part have 32 bits
    const auto many = plan(100000, 16384, 8192);
    CHECK(many.method == TopkMethod::Radix && many.workspace_bytes <= int64_t{32} << 20);
    CHECK(plan(0, 1 << 20, 5).workspace_bytes == 0);
}

TEST(cuda_topk_checks_its_arguments) {
    std::vector<float> x(40), values(6);
    std::vector<int64_t> indices(6), counts(2), keep(2);
    const Span xs = make_span(x.data(), DType::F32, {2, 20}), vs = make_span(values.data(), DType::F32, {2, 3});
    const Span is = make_span(indices.data(), DType::I64, {2, 3}), cs = make_span(counts.data(), DType::I64, {2});
    cuda::topk_select_call(xs, 3, vs, is);
    CHECK_ERROR("ShapeError", cuda::topk_select_call(xs, 21, vs, is));
    CHECK_ERROR("ShapeError", cuda::topk_select_call(xs, 2, vs, is));
    CHECK_ERROR("DtypeError", cuda::topk_select_call(xs, 3, vs, make_span(values.data(), DType::F32, {2, 3})));
    CHECK_ERROR("AliasingError", cuda::topk_select_call(xs, 3, make_span(x.data(), DType::F32, {2, 3}), is));
    Span apart = xs;
    apart.shape[1] = 10, apart.strides[1] = 2;
    CHECK_ERROR("ShapeError", cuda::topk_select_call(apart, 3, vs, is));
    CHECK_ERROR("ShapeError", cuda::topk_threshold_call(xs, 0, make_span(values.data(), DType::F32, {2})));
    CHECK_ERROR("DtypeError", cuda::ragged_topk_call(make_span(x.data(), DType::BF16, {2, 20}), cs, cs, is));
    CHECK_ERROR("ShapeError", cuda::ragged_topk_call(xs, make_span(counts.data(), DType::I64, {1}), cs, is));
    CHECK_ERROR("AliasingError", cuda::ragged_topk_call(xs, make_span(indices.data(), DType::I64, {2}), cs, is));
    std::vector<float> wide(9000);
    const auto args = cuda::topk_threshold_call(make_span(wide.data(), DType::F32, {1, 9000}), 8000, make_span(values.data(), DType::F32, {1}));
    CHECK_ERROR("SpanError", cuda::topk_launch(args, DType::F32, make_span(x.data(), DType::U8, {16}), 0));
}
