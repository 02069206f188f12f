#include "linear_problem.h"

using namespace sparsecore;
using namespace weights;

TEST(bitmask_linear_equals_the_double_reference_on_every_isa) {
    for (int round = 0; round < 200; ++round) {
        Weight weight = random_bitmask(random_size(), random_size(), random_float_type(),
                                       harness::pick<double>({0.0, 0.05, 0.3, 1.0}));
        LinearProblem p = random_problem(std::move(weight), harness::pick<int64_t>({0, 1, 1, 2, 3, 8, 16, 17, 31, 33, 40, 70}));
        check_problem(p, false);
    }
}

TEST(bitmask_linear_has_wide_column_indices) {
    Weight weight = random_bitmask(3, 65536 + harness::integer(1, 50), DType::F32, 0.01);
    LinearProblem p = random_problem(std::move(weight), 2);
    check_problem(p, false);
}

TEST(bitmask_linear_ignores_inf_and_nan_where_pruned) {
    for (int round = 0; round < 20; ++round) {
        check_poison(random_bitmask(harness::integer(1, 40), harness::integer(1, 40), random_float_type(), 0.3));
    }
}
