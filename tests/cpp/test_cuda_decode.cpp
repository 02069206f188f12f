// The decode kernel on every layout in tiles: ragged shapes, any plan, infinities and NaNs.
#include "cuda/nm_linear/decode.h"
#include "cuda/nm_linear/octets/layout.h"
#include "cuda/nm_linear/octets/tiles.h"
#include "cuda/nm_linear/plan.h"
#include "cuda/nm_linear/two_four/layout.h"
#include "cuda/nm_linear/two_four/tiles.h"
#include "emulated_linear.h"

using namespace sparsecore;
using namespace weights;

namespace {

int random_splits() { return static_cast<int>(harness::pick<int64_t>({1, 1, 2, 3})); }

template <class Tiles, int kTokens>
void emulate(typename Tiles::Args args, int splits, Schedule schedule) {
    using Shape = cuda::DecodeShape<Tiles, kTokens>;
    std::vector<float> partial(static_cast<size_t>(splits * args.tokens * args.rows));
    args.plan = {splits, partial.data()};
    const cuda::emulator::Launch shape{
        {blocks(args.row_tiles, Shape::kRowTiles), at_most_two(blocks(args.tokens, kTokens)), static_cast<unsigned>(splits)},
        cuda::kDecodeThreads,
        sizeof(typename Shape::Shared)};
    cuda::emulator::launch(shape, schedule, [&] { cuda::nm_decode<Tiles, kTokens>(args); });
    if (splits == 1) return;
    cuda::emulator::launch({{2}, cuda::kDecodeThreads}, schedule,
                           [&] { cuda::sum_splits<typename Tiles::Results>(args, args.plan); });
}

template <class T, class Body>
void with_tiles_of(const Geometry& g, const Body& body) {
    if (g.p0 == 2 && g.p1 == 4) return body(cuda::TwoFourTiles<T>{});
    if (g.p1 == 4) return body(cuda::OctetTiles<T, 1, 4>{});
    if (g.p0 == 1) return body(cuda::OctetTiles<T, 1, 8>{});
    body(cuda::OctetTiles<T, 2, 8>{});
}

// Calls body with the tiles of the weight's layout.
template <class Body>
void with_tiles(const Geometry& g, const Body& body) {
    g.dtype == DType::F16 ? with_tiles_of<cuda::F16>(g, body) : with_tiles_of<cuda::BF16>(g, body);
}

void check(LinearProblem& p) {
    const int splits = random_splits();
    const int64_t tokens = harness::pick<int64_t>({4, 8, 16});
    with_tiles(p.weight.geometry, [&](auto tiles) {
        using Tiles = decltype(tiles);
        check_in_all_schedules<typename Tiles::Args>(p, [&](const auto& args, Schedule schedule) {
            if (tokens == 4) return emulate<Tiles, 4>(args, splits, schedule);
            if (tokens == 8) return emulate<Tiles, 8>(args, splits, schedule);
            emulate<Tiles, 16>(args, splits, schedule);
        });
    });
}

LinearProblem problem(int64_t n, int64_t m, int64_t rows, int64_t cols, int64_t tokens, bool codes) {
    const DType dtype = harness::pick<DType>({DType::BF16, DType::F16});
    rows = fitting_rows(rows, [&](int64_t some) {
        return cuda::is_octets(dtype, some, cols, n, m) || cuda::is_two_four(dtype, some, cols, n, m);
    });
    return random_problem(random_nm(rows, cols, n, m, dtype, codes), tokens);
}

const std::vector<std::pair<int64_t, int64_t>> kPatterns{{2, 4}, {1, 4}, {1, 8}, {2, 8}};

}  // namespace

TEST(cuda_decode_equals_the_double_reference_in_the_emulator) {
    for (const auto& [n, m] : kPatterns) {
        for (int round = 0; round < 3; ++round) {
            LinearProblem p = problem(n, m, harness::pick<int64_t>({1, 7, 16, 33, 65}),
                                      harness::pick<int64_t>({1, 3, 33, 64, 130, 515, 600}), harness::pick<int64_t>({1, 2, 8, 9, 17}), harness::integer(0, 1) == 1);
            check(p);
        }
    }
}

// Several chunks for a block, so that the ring of activations and the tiles ahead go round.
// Activations that copies bring. 2:4 in any case: the other kernels repair what an early read gives instead of x.
TEST(cuda_decode_goes_round_its_ring_in_the_emulator) {
    const auto [other_n, other_m] = harness::pick(kPatterns);
    for (const auto& [n, m] : {std::pair<int64_t, int64_t>{2, 4}, std::pair<int64_t, int64_t>{other_n, other_m}}) {
        const int64_t cols = harness::integer(9 * 64, 12 * 64) * 8;
        LinearProblem p = problem(n, m, harness::integer(14, 16), cols, 3, true);
        while (p.x.span.strides[1] != 1) p.x = random_activations(3, cols, p.weight.geometry.dtype);
        check(p);
    }
}

// Only the second token has it, and there only the rows that keep the column.
TEST(cuda_decode_ignores_inf_and_nan_where_pruned) {
    for (const auto& [n, m] : kPatterns) {
        const int64_t cols = harness::pick<int64_t>({40, 600});
        LinearProblem p = problem(n, m, 18, cols, 2, false);
        const int64_t rows = p.weight.geometry.rows;
        p.has_bias = false;
        p.activation = "none";
        const DType dtype = p.weight.geometry.dtype;
        const int64_t column = harness::pick<int64_t>({harness::integer(0, cols - 1), cols - 1});
        const float value = harness::pick<float>({NAN, INFINITY, -INFINITY});
        set_value(p.x.span.data, p.x.span.strides[0] + column * p.x.span.strides[1], dtype, value);
        Memory out;
        with_tiles(p.weight.geometry, [&](auto tiles) {
            using Tiles = decltype(tiles);
            out = run_emulated<typename Tiles::Args>(p, [&](const auto& args) { emulate<Tiles, 4>(args, random_splits(), {}); });
        });
        for (int64_t row = 0; row < rows; ++row) {
            CHECK(std::isfinite(core::load_float(out.data(), row, dtype)));
            const float got = core::load_float(out.data(), rows + row, dtype);
            const bool kept = formats::test_bit(p.weight.positions.bytes.data() + row * formats::bitmask_bytes(cols), column);
            const bool zero = core::load_float(p.weight.dense.data(), row * cols + column, dtype) == 0.0f;
            CHECK(!kept ? std::isfinite(got) : zero || std::isnan(value) ? std::isnan(got) : std::isinf(got));
        }
    }
}

TEST(cuda_decode_splits_give_every_sm_a_block) {
    CHECK(cuda::decode_splits(4096 / cuda::decode_block_rows(1), 64, 132) == 1);   // 128 blocks
    CHECK(cuda::decode_splits(1024 / cuda::decode_block_rows(1), 64, 132) == 5);   // 32 blocks
    CHECK(cuda::decode_splits(4096 / cuda::decode_block_rows(16), 64, 132) == 5);  // 32 blocks
    CHECK(cuda::decode_splits(1, 16, 132) == 2);                                   // a tile for each warp
    CHECK(cuda::decode_splits(0, 64, 132) == 1);
}
