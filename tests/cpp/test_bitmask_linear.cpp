#include "linear_problem.h"

using namespace sparsecore;
using namespace weights;

namespace {

// Rows of any density side by side, so that a vector step meets empty, short and full lists.
Weight random_rows(int64_t rows, int64_t cols, DType dtype) {
    Memory dense(rows * cols * itemsize(dtype));
    for (int64_t row = 0; row < rows; ++row) {
        const Memory line = random_dense(1, cols, dtype, harness::pick<double>({0.0, 0.0, 0.05, 0.3, 0.6, 1.0}));
        std::copy(line.bytes.begin(), line.bytes.end(), dense.bytes.begin() + row * cols * itemsize(dtype));
    }
    return bitmask_of(rows, cols, dtype, std::move(dense));
}

const std::vector<int64_t> kTokens = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 64, 65, 70};

}  // namespace

TEST(bitmask_linear_equals_the_double_reference_on_every_isa) {
    for (int round = 0; round < 200; ++round) {
        Weight weight = random_bitmask(random_size(), random_size(), random_float_type(),
                                       harness::pick<double>({0.0, 0.05, 0.12, 0.3, 0.6, 1.0}));
        LinearProblem p = random_problem(std::move(weight), harness::pick(kTokens));
        check_problem(p, false);
    }
}

TEST(bitmask_linear_takes_rows_of_every_density_and_ragged_chunks) {
    for (int round = 0; round < 60; ++round) {
        const int64_t cols = harness::pick<int64_t>({127, 128, 129, 191, 256, 300, 385});
        LinearProblem p = random_problem(random_rows(harness::integer(1, 40), cols, random_float_type()),
                                         harness::pick(kTokens));
        check_problem(p, false);
    }
}

TEST(bitmask_linear_takes_long_rows) {
    for (int64_t tokens : {2, 20, 70}) {  // 65536 columns are the most that 16 bits tell
        Weight weight = random_bitmask(2, harness::pick<int64_t>({65536, 65537, 66000}), random_float_type(), 0.01);
        LinearProblem p = random_problem(std::move(weight), tokens);
        check_problem(p, false);
    }
}

TEST(bitmask_linear_takes_several_panels_of_rows_and_blocks_of_tokens) {
    LinearProblem rows = random_problem(random_bitmask(1100, 40, random_float_type(), 0.2), 70);
    check_problem(rows, false);
    LinearProblem tokens = random_problem(random_bitmask(2, 20000, random_float_type(), 0.05), 150);
    check_problem(tokens, false);
}

TEST(bitmask_linear_ignores_inf_and_nan_where_pruned) {
    for (int round = 0; round < 30; ++round) {
        check_poison(random_bitmask(harness::integer(1, 40), harness::integer(1, 200), random_float_type(),
                                    harness::pick<double>({0.05, 0.3, 0.7})));
    }
}

TEST(bitmask_residents_take_at_most_a_quarter_more_than_the_stored_form) {
    for (int round = 0; round < 200; ++round) {
        const double density = harness::integer(0, 100) / 100.0;
        Weight weight = random_bitmask(harness::integer(0, 60), harness::integer(0, 500), random_float_type(), density);
        const formats::PartBytes stored = part_bytes(weight.geometry);
        const int64_t bytes = stored.values + stored.positions + stored.offsets;
        for (core::Isa isa : core::available_isas()) {
            CHECK(4 * cpu::resident_size(weight.stored(), isa) <= 5 * bytes + 4 * 4096);
        }
    }
}

TEST(damaged_bitmask_residents_are_refused) {
    for (int round = 0; round < 100; ++round) {
        Weight weight = random_bitmask(harness::integer(1, 20), harness::integer(100, 300), random_float_type(), 0.1);
        for (core::Isa isa : core::available_isas()) {
            Resident resident(cpu::resident_size(weight.stored(), isa));
            cpu::resident_make(weight.stored(), isa, resident.span);
            cpu::resident_validate(resident.span);
            const formats::Resident parts = cpu::resident_open(resident.span);
            const int section = static_cast<int>(harness::integer(1, parts.section_count - 1));
            if (parts.section_bytes[section] == 0) continue;
            // A place twice, a count too high or too low, a place outside, an offset that is no sum.
            parts.sections[section][harness::integer(0, parts.section_bytes[section] - 1)] ^= 0x80;
            CHECK_ERROR("IndexTableError", cpu::resident_validate(resident.span));
        }
    }
}
