// The AMX kernels, on the processor's tiles or (SPARSECORE_EMULATE_TILES) on the software model of them, and the model
// itself. Without either there is nothing to run.
#include "cpu/amx/strip_linear.h"
#include "linear_problem.h"
#if defined(SPARSECORE_EMULATE_TILES)
#include "cpu/amx/tiles.h"
#endif

using namespace sparsecore;
using namespace weights;

namespace {

bool has_tiles() { return core::isa_available(core::Isa::Amx); }

// On AMX against the double reference, and the same bits on other threads.
void check_tiles(Weight weight, int64_t tokens) {
    CHECK(cpu::choose_layout(weight.geometry, core::Isa::Amx).isa == core::Isa::Amx);
    LinearProblem p = random_problem(std::move(weight), tokens);
    const bool transposed = harness::integer(0, 3) == 0;
    Memory out = run_linear(p, core::Isa::Amx, 1, transposed);
    compare_linear(p, out, transposed);
    for (int threads : {2, 3, 8}) CHECK(run_linear(p, core::Isa::Amx, threads, transposed).bytes == out.bytes);
}

int64_t random_tokens() { return harness::pick<int64_t>({1, 4, 5, 15, 16, 17, 31, 32, 33, 50, 65, 100}); }

int64_t random_rows() { return harness::integer(1, 100); }
int64_t random_width() { return harness::pick<int64_t>({1, 7, 31, 32, 64, 95, 96, 130, 544}); }

double random_density() { return harness::pick<double>({0.0, 0.05, 0.3, 1.0}); }

struct Pattern {
    int64_t n, m;
};

}  // namespace

TEST(amx_nm_linear_equals_the_double_reference) {
    for (int round = 0; has_tiles() && round < 60; ++round) {
        const auto [n, m] = harness::pick<Pattern>({{1, 2}, {2, 4}, {1, 4}, {3, 4}, {4, 8}, {2, 8}, {1, 8}, {1, 16}, {5, 16}, {4, 32}});
        const int64_t cols = harness::integer(1, 20) * 2 * m;  // whole pairs
        check_tiles(random_nm(harness::integer(1, 70), cols, n, m, DType::BF16, harness::integer(0, 1) == 1), random_tokens());
    }
}

TEST(amx_block_linear_equals_the_double_reference) {
    for (int round = 0; has_tiles() && round < 60; ++round) {
        const int64_t r = harness::pick<int64_t>({8, 9, 15, 16, 24, 32, 33, 48, 64}), c = harness::pick<int64_t>({2, 4, 16, 30, 32, 34, 64});
        check_tiles(random_blocks(random_rows(), random_width(), r, c, DType::BF16, random_density()), random_tokens());
    }
}

TEST(amx_bitmask_linear_equals_the_double_reference) {
    for (int round = 0; has_tiles() && round < 60; ++round) {
        const double density = harness::pick<double>({0.0, 0.05, 0.1, 0.25, 0.5, 1.0});
        check_tiles(random_bitmask(random_rows(), random_width(), DType::BF16, density), random_tokens());
    }
}

TEST(amx_linear_crosses_its_blocks) {
    if (!has_tiles()) return;
    const int64_t cols = 17408;  // whose activations fill the cache with one pair of token tiles
    CHECK(cpu::strip_token_block(cols * 2) == cpu::kTokenPair);
    check_tiles(random_nm(18, cols, 2, 4, DType::BF16, false), 40);
}

#if defined(SPARSECORE_EMULATE_TILES)

namespace {

namespace model = cpu::tiles::model;
using cpu::tiles::Config;

// c [rows, columns] += a [rows, groups] * b [groups, columns]: tiles 0, 1 and 2.
Config product_shape(int64_t rows, int64_t columns, int64_t groups) {
    Config config;
    const auto set = [&config](int tile, int64_t tile_rows, int64_t width) {
        config.rows[tile] = static_cast<uint8_t>(tile_rows);
        config.row_bytes[tile] = static_cast<uint16_t>(width * 4);
    };
    set(0, rows, columns);
    set(1, rows, groups);
    set(2, groups, columns);
    return config;
}

void check_bad_config(void (*damage)(Config&)) {
    Config config = product_shape(16, 16, 16);
    damage(config);
    CHECK_ERROR("TileFault", model::configure(&config));
}

}  // namespace

TEST(tile_model_faults_where_the_processor_does) {
    uint8_t memory[1024] = {};
    model::release();
    CHECK_ERROR("TileFault", model::zero(0));
    CHECK_ERROR("TileFault", model::load(0, memory, 64));
    check_bad_config([](Config& c) { c.palette = 2; });
    check_bad_config([](Config& c) { c.start_row = 1; });
    check_bad_config([](Config& c) { c.reserved[13] = 1; });
    check_bad_config([](Config& c) { c.rows[0] = 17; });
    check_bad_config([](Config& c) { c.row_bytes[0] = 68; });
    check_bad_config([](Config& c) { c.rows[3] = 1; });
    check_bad_config([](Config& c) { c.row_bytes[3] = 4; });
    check_bad_config([](Config& c) { c.rows[8] = 1, c.row_bytes[8] = 4; });
    Config config = product_shape(3, 5, 7);
    model::configure(&config);
    model::dpbf16ps(0, 1, 2);
    CHECK_ERROR("TileFault", model::dpbf16ps(0, 2, 1));
    CHECK_ERROR("TileFault", model::dpbssd(0, 1, 1));
    CHECK_ERROR("TileFault", model::store(3, memory, 64));
    config.row_bytes[1] = 6 * 4;
    model::configure(&config);
    CHECK_ERROR("TileFault", model::dpbf16ps(0, 1, 2));
    model::release();
    CHECK_ERROR("TileFault", model::dpbssd(0, 1, 2));
}

TEST(tile_model_multiplies_int8_and_wraps) {
    for (int round = 0; round < 30; ++round) {
        const int64_t rows = harness::integer(1, 16), columns = harness::integer(1, 16), groups = harness::integer(1, 16);
        const Config config = product_shape(rows, columns, groups);
        model::configure(&config);
        std::vector<int8_t> a(static_cast<size_t>(rows * groups * 4)), b(static_cast<size_t>(groups * columns * 4));
        std::vector<int32_t> c(static_cast<size_t>(rows * columns)), expected = c;
        for (auto* values : {&a, &b}) {
            for (int8_t& value : *values) value = static_cast<int8_t>(harness::integer(-128, 127));
        }
        for (size_t i = 0; i < c.size(); ++i) {
            c[i] = static_cast<int32_t>(harness::pick<int64_t>({0, INT32_MAX, INT32_MIN, harness::integer(-1000, 1000)}));
            auto sum = static_cast<uint32_t>(c[i]);
            const int64_t row = static_cast<int64_t>(i) / columns, column = static_cast<int64_t>(i) % columns;
            for (int64_t k = 0; k < groups * 4; ++k) {
                sum += static_cast<uint32_t>(a[static_cast<size_t>(row * groups * 4 + k)] *
                                             b[static_cast<size_t>((k / 4 * columns + column) * 4 + k % 4)]);
            }
            expected[i] = static_cast<int32_t>(sum);
        }
        model::load(0, c.data(), columns * 4);
        model::load(1, a.data(), groups * 4);
        model::load(2, b.data(), columns * 4);
        model::dpbssd(0, 1, 2);
        model::store(0, c.data(), columns * 4);
        CHECK(c == expected);
    }
    model::release();
}

TEST(tile_model_counts_subnormals_as_zero_and_keeps_nan) {
    const Config config = product_shape(1, 1, 1);
    const auto product = [&config](float a0, float b0, float a1, float b1, float start) {
        const uint16_t a[2] = {core::f32_to_bf16(a0), core::f32_to_bf16(a1)};
        const uint16_t b[2] = {core::f32_to_bf16(b0), core::f32_to_bf16(b1)};
        model::configure(&config);
        model::load(0, &start, 4);
        model::load(1, a, 4);
        model::load(2, b, 4);
        model::dpbf16ps(0, 1, 2);
        float sum = 0.0f;
        model::store(0, &sum, 4);
        model::release();
        return sum;
    };
    CHECK(product(2.0f, 3.0f, 0.5f, 8.0f, 1.0f) == 11.0f);
    CHECK(product(0x1p-130f, 0x1p100f, 0.0f, 0.0f, 0.0f) == 0.0f);   // an input
    CHECK(product(0x1p-70f, 0x1p-70f, 0.0f, 0.0f, 0.0f) == 0.0f);    // a product
    CHECK(product(0.0f, 0.0f, 0.0f, 0.0f, 0x1p-130f) == 0.0f);       // the sum before
    CHECK(product(0x1p64f, 0x1p64f, 0.0f, 0.0f, 0.0f) == INFINITY);
    CHECK(std::isnan(product(INFINITY, 0.0f, 0.0f, 0.0f, 0.0f)));
}

#endif
