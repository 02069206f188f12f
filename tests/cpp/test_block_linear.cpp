#include "linear_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

// Whole blocks are kept or pruned; rows of blocks may be empty.
Weight random_blocks(int64_t rows, int64_t cols, int64_t r, int64_t c, DType dtype, double density) {
    Weight all = random_block(rows, cols, r, c, dtype, 1.0);
    const int64_t across = (cols + c - 1) / c;
    std::vector<bool> kept(static_cast<size_t>(((rows + r - 1) / r) * across));
    for (size_t i = 0; i < kept.size(); ++i) kept[i] = std::uniform_real_distribution<double>()(harness::random()) < density;
    for (int64_t i = 0; i < rows * cols; ++i) {
        const int64_t block = i / cols / r * across + i % cols / c;
        if (!kept[static_cast<size_t>(block)]) set_value(all.dense.data(), i, dtype, 0.0f);
    }
    const int64_t count = formats::block_count(all.dense_span(), r, c);
    Weight weight = with_storage({Kind::Block, dtype, rows, cols, r, c, count, false}, std::move(all.dense));
    const Stored stored = weight.stored();
    formats::block_pack(weight.dense_span(), r, c, stored.values, stored.positions, stored.offsets);
    return weight;
}

Weight random_weight() {
    const int64_t r = harness::pick<int64_t>({1, 2, 4, 5, 8, 15, 16, 17, 32, 33, 48}), c = harness::pick<int64_t>({1, 3, 4, 16, 32});
    return random_blocks(random_size(), random_size(), r, c, random_float_type(),
                         harness::pick<double>({0.0, 0.1, 0.5, 1.0}));
}

}  // namespace

TEST(block_linear_equals_the_double_reference_on_every_isa) {
    for (int round = 0; round < 200; ++round) {
        LinearProblem p = random_problem(random_weight(), harness::pick<int64_t>({0, 1, 2, 3, 5, 11, 12, 13, 25, 40}));
        check_problem(p, p.weight.geometry.p0 >= 8);  // narrower blocks run as unstructured rows
    }
}

TEST(block_linear_crosses_its_token_tiles) {
    LinearProblem p = random_problem(random_blocks(40, 64, 32, 32, DType::F32, 0.5), 200);
    check_problem(p, true);
}

TEST(block_linear_ignores_inf_and_nan_where_pruned) {
    for (int round = 0; round < 20; ++round) {
        const int64_t r = harness::pick<int64_t>({1, 4, 16, 32});
        check_poison(random_blocks(harness::integer(1, 40), harness::integer(1, 40), r, harness::integer(1, 16),
                                   random_float_type(), 0.3));
    }
}
