// V:N:M weights: how they are found and laid out, and the kernels that pick columns.
#include "cuda/emulator/device.h"
#include "cuda/nm_linear/gathered/gathered.h"
#include "cuda/nm_linear/gathered/layout.h"
#include "cuda/nm_linear/gathered/plan.h"
#include "cuda/nm_linear/gathered/sm80_gemm.h"
#include "cuda/nm_linear/gathered/tiles.h"
#include "cuda_problem.h"
#include "emulated_linear.h"

using namespace sparsecore;
using namespace weights;

namespace {

// 2:m with at most four columns of a group in `block_rows` rows; every value is there.
Weight random_gathered(int64_t rows, int64_t cols, int64_t m, int64_t block_rows, DType dtype, bool codes) {
    Memory dense(rows * cols * 2);
    std::vector<int64_t> order(static_cast<size_t>(m));
    for (int64_t first = 0; first < rows; first += block_rows) {
        for (int64_t begin = 0; begin < cols; begin += m) {
            const int64_t size = std::min(m, cols - begin);
            std::iota(order.begin(), order.end(), begin);
            std::shuffle(order.begin(), order.begin() + size, harness::random());
            const int64_t choice = std::min<int64_t>(4, size);
            for (int64_t row = first; row < std::min(first + block_rows, rows); ++row) {
                std::shuffle(order.begin(), order.begin() + choice, harness::random());
                for (int64_t i = 0; i < std::min<int64_t>(2, size); ++i) {
                    set_value(dense.data(), row * cols + order[static_cast<size_t>(i)], dtype, harness::normal() + 8.0f);
                }
            }
        }
    }
    const int64_t kept = formats::nm_kept_per_row(cols, 2, m);
    Weight weight = with_storage({Kind::NM, dtype, rows, cols, 2, m, rows * kept, codes}, std::move(dense));
    Memory mask(rows * formats::bitmask_bytes(cols));
    const Span bitmask = make_span(mask.data(), DType::U8, {rows, formats::bitmask_bytes(cols)});
    formats::nm_pack(weight.dense_span(), 2, m, weight.stored().values, bitmask);
    if (codes) {
        formats::nm_bitmask_to_codes(bitmask, cols, 2, m, weight.stored().positions);
    } else {
        weight.positions = mask;
    }
    return weight;
}

template <class T, int kBlockRows, int kGroup, int kBlocks>
void emulate_blocks(const cuda::GatheredArgs& args, Schedule schedule) {
    using Shape = cuda::GatheredShape<kBlockRows, kGroup, kBlocks>;
    const cuda::emulator::Launch shape{{blocks(args.rows, Shape::kRows), at_most_two(blocks(args.tokens, Shape::kTokens))},
                                       cuda::kGemmThreads,
                                       sizeof(typename Shape::Shared)};
    cuda::emulator::launch(shape, schedule, [&] { cuda::sm80_gathered_gemm<T, kBlockRows, kGroup, kBlocks>(args); });
}

template <class T, int kBlockRows, int kGroup>
void emulate_gemm(const cuda::GatheredArgs& args, Schedule schedule) {
    if (harness::integer(0, 1) == 1) return emulate_blocks<T, kBlockRows, kGroup, 2>(args, schedule);
    emulate_blocks<T, kBlockRows, kGroup, 1>(args, schedule);
}

template <class T, int kGroup>
void emulate(const cuda::GatheredArgs& args, Schedule schedule, bool many) {
    if (many) return args.block_rows == 64 ? emulate_gemm<T, 64, kGroup>(args, schedule) : emulate_gemm<T, 128, kGroup>(args, schedule);
    using Tiles = cuda::GatheredTiles<T, kGroup>;
    using Shape = cuda::DecodeShape<Tiles, cuda::kMostGatheredDecodeTokens>;
    const cuda::emulator::Launch shape{
        {blocks(args.row_tiles, Shape::kRowTiles), 1}, cuda::kDecodeThreads, sizeof(typename Shape::Shared)};
    cuda::emulator::launch(shape, schedule, [&] { cuda::nm_decode<Tiles, cuda::kMostGatheredDecodeTokens>(args); });
}

void check(int64_t tokens, bool many) {
    const DType dtype = harness::pick<DType>({DType::BF16, DType::F16});
    const int64_t m = harness::pick<int64_t>({8, 16}), block_rows = harness::pick<int64_t>({64, 128});
    const int64_t rows = harness::pick<int64_t>({64, 128, 189, 192}), cols = harness::integer(1, 4) * 16 * m - harness::pick<int64_t>({0, 3, 5});
    LinearProblem p = random_problem(random_gathered(rows, cols, m, block_rows, dtype, harness::integer(0, 1) == 1), tokens);
    check_in_all_schedules<cuda::GatheredArgs>(p, [&](const auto& args, Schedule schedule) {
        const auto run = [&](auto element) {
            using T = decltype(element);
            args.group == 8 ? emulate<T, 8>(args, schedule, many) : emulate<T, 16>(args, schedule, many);
        };
        dtype == DType::F16 ? run(cuda::F16{}) : run(cuda::BF16{});
    });
}

// The Hopper kernel behind the transposition, by their launches; the memory for the latter begins as NaN.
void launch_sm90(cuda::GatheredArgs args, DType dtype, int64_t column_tokens, Schedule schedule) {
    std::vector<uint16_t> memory(static_cast<size_t>(args.cols * column_tokens) + 8, 0xffff);
    args.columns = memory.data() + (16 - reinterpret_cast<uintptr_t>(memory.data()) % 16) % 16 / 2;
    args.column_tokens = column_tokens;
    const harness::OnDevice device(90);
    cuda::emulator::device().schedule = schedule;
    dtype == DType::F16 ? cuda::gathered_launch_sm90_f16(args, 0) : cuda::gathered_launch_sm90_bf16(args, 0);
}

LinearProblem hopper_problem(int64_t m, DType dtype) {
    const int64_t rows = harness::pick<int64_t>({64, 128, 189}), tiles = harness::pick<int64_t>({1, 2, 6});
    // A last tile of which half is padding: so many bytes that only a wide weight is still laid out so.
    const int64_t padding = tiles == 6 ? harness::pick<int64_t>({0, 8 * m}) : 0, cols = tiles * 16 * m - padding - harness::pick<int64_t>({0, 3, 5});
    return random_problem(random_gathered(rows, cols, m, 128, dtype, harness::integer(0, 1) == 1), harness::pick<int64_t>({1, 70, 264, 330}));
}

}  // namespace

TEST(cuda_gathered_gemm_equals_the_double_reference_in_the_emulator) {
    for (int round = 0; round < 3; ++round) check(harness::pick<int64_t>({1, 17, 65, 140}), true);
}

TEST(cuda_gathered_decode_equals_the_double_reference_in_the_emulator) {
    for (int round = 0; round < 3; ++round) check(harness::pick<int64_t>({1, 7, 8, 19}), false);
}

// On one multiprocessor every shape of blocks has enough to do.
TEST(cuda_gathered_launches_fit_every_gpu) {
    for (const int capability : {80, 86, 89, 120}) {
        const harness::OnDevice device(capability, harness::pick<int>({1, 1, 4}));
        const DType dtype = harness::pick<DType>({DType::BF16, DType::F16});
        const int64_t m = capability == 86 ? 8 : harness::pick<int64_t>({8, 16}), block_rows = harness::pick<int64_t>({64, 128, 128});
        LinearProblem p = random_problem(random_gathered(256, 16 * m, m, block_rows, dtype, true), harness::pick<int64_t>({5, 17, 97}));
        Memory out = run_emulated<cuda::GatheredArgs>(p, [&](const auto& args) { cuda::nm_linear_launch(args, dtype, 0); });
        compare_linear(p, out);
    }
}

TEST(cuda_gathered_weights_are_found_and_round_trip) {
    for (int round = 0; round < 12; ++round) {
        const int64_t m = harness::pick<int64_t>({8, 16}), block_rows = harness::pick<int64_t>({64, 128});
        const int64_t rows = harness::pick<int64_t>({64, 128, 176, 256}), cols = 32 * m - harness::integer(0, 6);
        Weight weight = random_gathered(rows, cols, m, block_rows, DType::BF16, round % 2 == 0);
        const uint32_t layout = cuda::nm_layout(weight.stored());
        CHECK(layout == (block_rows == 128 || rows <= 64 ? cuda::kCudaGathered128Layout : cuda::kCudaGathered64Layout));
        Resident resident(cuda::nm_resident_size(DType::BF16, rows, cols, 2, m, layout));
        cuda::nm_resident_make(weight.stored(), resident.span);
        Weight back = with_storage(weight.geometry, Memory());
        cuda::nm_resident_to_stored(resident.span, back.stored());
        CHECK(back.values.bytes == weight.values.bytes && back.positions.bytes == weight.positions.bytes);
    }
    CHECK(cuda::nm_layout(random_nm(128, 256, 2, 8, DType::BF16, true).stored()) == cuda::kCudaOctetLayout);
    CHECK(cuda::nm_layout(random_gathered(32, 256, 8, 64, DType::BF16, true).stored()) == cuda::kCudaOctetLayout);
    CHECK(cuda::nm_layout(random_gathered(128, 257, 8, 128, DType::BF16, true).stored()) == cuda::kCudaOctetLayout);
}

TEST(cuda_gathered_hopper_gemm_equals_the_double_reference_in_the_emulator) {
    for (int round = 0; round < 2; ++round) {
        const DType dtype = harness::pick<DType>({DType::BF16, DType::F16});
        LinearProblem p = hopper_problem(harness::pick<int64_t>({8, 16}), dtype);
        if (harness::integer(0, 1) == 1) p.x = aligned_activations(p.tokens, p.weight.geometry.cols, dtype);
        const int64_t column_tokens = harness::pick<int64_t>({264, 512});  // one part, or two of which the second has few tokens
        check_in_all_schedules<cuda::GatheredArgs>(
            p, [&](const auto& args, Schedule schedule) { launch_sm90(args, dtype, column_tokens, schedule); });
    }
}

// x holds an infinity or a NaN in one column: only rows that keep a weight there see it.
TEST(cuda_gathered_hopper_gemm_ignores_inf_and_nan_where_pruned) {
    LinearProblem p = hopper_problem(8, DType::BF16);
    const int64_t rows = p.weight.geometry.rows, cols = p.weight.geometry.cols, column = harness::pick<int64_t>({harness::integer(0, cols - 1), cols - 1});
    p.has_bias = false;
    p.activation = "none";
    for (int64_t t = 0; t < p.tokens; ++t) {
        const int64_t place = t * p.x.span.strides[0] + column * p.x.span.strides[1];
        set_value(p.x.span.data, place, DType::BF16, harness::pick<float>({INFINITY, -INFINITY, NAN}));
    }
    const Memory out = run_emulated<cuda::GatheredArgs>(p, [&](const auto& args) { launch_sm90(args, DType::BF16, 512, {}); });
    for (int64_t i = 0; i < p.tokens * rows; ++i) {
        const bool kept = core::load_float(p.weight.dense.data(), i % rows * cols + column, DType::BF16) != 0.0f;
        CHECK(std::isfinite(core::load_float(out.bytes.data(), i, DType::BF16)) != kept);
    }
}

TEST(cuda_gathered_calls_refuse_memory_that_columns_do_not_fit) {
    const int64_t tokens = 16, rows = 128, cols = 128;
    for (const int64_t block_rows : {64, 128}) {
        const uint32_t layout = block_rows == 64 ? cuda::kCudaGathered64Layout : cuda::kCudaGathered128Layout;
        LinearProblem p = random_problem(random_gathered(rows, cols, 8, block_rows, DType::BF16, true), tokens);
        p.x = aligned_activations(tokens, cols, DType::BF16);
        Resident resident(cuda::nm_resident_size(DType::BF16, rows, cols, 2, 8, layout));
        Memory out(tokens * rows * 2), memory(cols * 64 * 2 + 32);
        auto* aligned = memory.bytes.data() + (16 - reinterpret_cast<uintptr_t>(memory.data()) % 16) % 16;
        const auto call = [&](unsigned char* data, int64_t columns, int64_t held) {
            const Span workspace = make_span(data, DType::BF16, {columns, held});
            const Span out_span = make_span(out.data(), DType::BF16, {tokens, rows});
            return cuda::nm_linear_call(p.x.span, resident.span, 2, 8, nullptr, out_span, cpu::Activation::None, &workspace, layout);
        };
        CHECK_ERROR("ShapeError", call(aligned, cols - 1, 16));
        CHECK_ERROR("ShapeError", call(aligned, cols, 12));
        CHECK_ERROR("ShapeError", call(aligned, cols, 0));
        if (block_rows == 64) {
            CHECK_ERROR("ShapeError", call(aligned, cols, 16));
            continue;
        }
        CHECK_ERROR("SpanError", call(aligned + 2, cols, 16));
        CHECK(std::get<cuda::GatheredArgs>(call(aligned, cols, 16)).column_tokens == 16);
    }
}

TEST(cuda_gathered_columns_are_transposed_where_that_pays) {
    constexpr int64_t kScratch = 32 << 20;
    for (int round = 0; round < 200; ++round) {
        const int64_t tokens = harness::integer(1, 20000), rows = harness::integer(1, 20000), cols = harness::integer(1, 80000);
        const int64_t held = cuda::nm_transposed_tokens(tokens, rows, cols, cuda::kCudaGathered128Layout, 90, 132);
        CHECK(held % 256 == 0 && held * cols * 2 <= kScratch && held < tokens + 256);
        const bool many = tokens > 64 && rows >= 2048;
        CHECK(held == 0 || many);
        if (many && tokens >= 2048 && cols <= 8192) CHECK(held >= 1024);
        for (const uint32_t layout : {cuda::kCudaGathered64Layout, cuda::kCudaOctetLayout}) {
            CHECK(cuda::nm_transposed_tokens(tokens, rows, cols, layout, 90, 132) == 0);
        }
        CHECK(cuda::nm_transposed_tokens(tokens, rows, cols, cuda::kCudaGathered128Layout, 80, 132) == 0);
    }
    CHECK(cuda::nm_transposed_tokens(8192, 8192, 8192, cuda::kCudaGathered128Layout, 90, 132) == 2048);
    CHECK(cuda::nm_transposed_tokens(256, 8192, 8192, cuda::kCudaGathered128Layout, 90, 132) == 0);  // 64 blocks: half an H200
}
