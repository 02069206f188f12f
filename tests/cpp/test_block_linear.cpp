#include "linear_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

// Bands of one and of several, whole and ragged vectors; narrow blocks with and without whole vectors of inputs.
Weight random_weight() {
    const int64_t r = harness::pick<int64_t>({1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 32, 33, 48, 64, 70});
    const int64_t c = harness::pick<int64_t>({1, 2, 3, 4, 8, 15, 16, 32, 48, 64});
    return random_blocks(random_size(), random_size(), r, c, random_float_type(),
                         harness::pick<double>({0.0, 0.1, 0.5, 1.0}));
}

}  // namespace

TEST(block_linear_equals_the_double_reference_on_every_isa) {
    for (int round = 0; round < 300; ++round) {
        Weight weight = random_weight();
        const bool same_in_any_batch = weight.geometry.p0 >= 8;  // few tokens of narrow blocks are summed in another order
        LinearProblem p = random_problem(std::move(weight), harness::pick<int64_t>({0, 1, 2, 3, 4, 5, 8, 11, 13, 17, 25, 40}));
        check_problem(p, same_in_any_batch);
    }
}

TEST(block_linear_crosses_its_token_tiles) {
    for (int64_t r : {4, 8, 16, 32}) {
        const int64_t tokens = harness::integer(60, 220);
        LinearProblem p = random_problem(random_blocks(40, 64, r, 32, random_float_type(), 0.5), tokens);
        check_problem(p, r >= 8);
    }
}

// Longer than what the second-level cache holds for a tile of tokens.
TEST(block_linear_takes_long_rows_in_smaller_groups) {
    for (int64_t r : {2, 32}) {
        LinearProblem p = random_problem(random_blocks(r, 70000, r, 64, random_float_type(), 0.02), 21);
        check_problem(p, r >= 8);
    }
}

TEST(block_linear_ignores_inf_and_nan_where_pruned) {
    for (int round = 0; round < 40; ++round) {
        const int64_t r = harness::pick<int64_t>({1, 4, 8, 16, 32});
        check_poison(random_blocks(harness::integer(1, 40), harness::integer(1, 40), r, harness::integer(1, 16),
                                   random_float_type(), 0.3));
    }
}

TEST(block_weight_comes_back_from_every_layout_and_holds_little_more) {
    for (int round = 0; round < 100; ++round) {
        Weight weight = random_weight();
        const Geometry& g = weight.geometry;
        const formats::PartBytes bytes = part_bytes(g);
        const int64_t stored = bytes.values + bytes.positions + bytes.offsets;
        for (core::Isa isa : core::available_isas()) {
            Resident resident(cpu::resident_size(weight.stored(), isa));
            if (g.p0 * g.p1 >= 16) CHECK(static_cast<double>(resident.span.bytes) <= 1.15 * static_cast<double>(stored) + 4096);
            cpu::resident_make(weight.stored(), isa, resident.span);
            cpu::resident_validate(resident.span);
            Weight back = with_storage(g, Memory(0));
            cpu::resident_to_stored(resident.span, back.stored());
            CHECK(back.values.bytes == weight.values.bytes);
            CHECK(back.positions.bytes == weight.positions.bytes);
            CHECK(back.offsets.bytes == weight.offsets.bytes);
        }
    }
}
