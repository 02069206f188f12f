#include "cpu/topk/topk.h"

#include <algorithm>
#include <cmath>

#include "core/isa.h"
#include "topk_rows.h"

using namespace sparsecore;
using namespace weights;

namespace {

void check_select(const Rows& x, int64_t rows, int64_t n, int64_t k) {
    const DType dtype = x.span.dtype;
    Memory values(rows * k * itemsize(dtype)), indices(rows * k * 8);
    const bool transposed = harness::integer(0, 3) == 0;
    Span vs = make_span(values.data(), dtype, {rows, k}), is = make_span(indices.data(), DType::I64, {rows, k});
    if (transposed) vs.strides[0] = is.strides[0] = 1, vs.strides[1] = is.strides[1] = rows;
    cpu::topk_select(x.span, k, vs, is, static_cast<int>(harness::integer(1, 3)));
    for (int64_t row = 0; row < rows; ++row) {
        const std::vector<int64_t> expected = expected_indices(x, row, n, k);
        for (int64_t i = 0; i < k; ++i) {
            const int64_t place = row * is.strides[0] + i * is.strides[1];
            const int64_t index = expected[static_cast<size_t>(i)];
            CHECK(is.as<int64_t>()[place] == index);
            const int64_t from = (row * x.span.strides[0] + index * x.span.strides[1]) * itemsize(dtype);
            CHECK(std::memcmp(values.bytes.data() + place * itemsize(dtype), x.memory.bytes.data() + from,
                              static_cast<size_t>(itemsize(dtype))) == 0);
        }
    }
}

void check_threshold(const Rows& x, int64_t rows, int64_t n, int64_t k) {
    Memory out(rows * itemsize(x.span.dtype));
    cpu::topk_threshold(x.span, k, make_span(out.data(), x.span.dtype, {rows}), 2);
    for (int64_t row = 0; row < rows; ++row) {
        float least = INFINITY;
        bool number = false;
        for (int64_t index : expected_indices(x, row, n, k)) {
            const float value = x.at(row, index);
            if (!std::isnan(value)) least = std::min(least, value), number = true;
        }
        const float got = core::load_float(out.data(), row, x.span.dtype);
        CHECK(number ? got == least : std::isnan(got));
    }
}

}  // namespace

TEST(topk_equals_a_stable_sort_on_every_isa) {
    for (int round = 0; round < 150; ++round) {
        const int64_t rows = harness::integer(0, 4);
        const int64_t n = harness::pick<int64_t>({0, 1, 2, 15, 16, 17, 33, 100, 1000, 4096, 4097, 9000});
        const int64_t k = harness::pick<int64_t>({0, n / 100, n / 3, n / 2, n});
        const Rows x = random_rows(rows, n, random_float_type());
        for (core::Isa isa : core::available_isas()) {
            core::set_isa(core::isa_name(isa));
            check_select(x, rows, n, k);
            if (k > 0) check_threshold(x, rows, n, k);
        }
        core::set_isa("auto");
    }
}

TEST(topk_of_long_rows_is_searched_from_a_sample) {
    for (int round = 0; round < 6; ++round) {
        const int64_t n = harness::pick<int64_t>({8191, 8192, 20001, 70000});
        const int64_t k = harness::pick<int64_t>({1, 10, n / 100, n / 3, n - 1, n});
        const Rows x = random_rows(2, n, random_float_type());
        for (core::Isa isa : core::available_isas()) {
            core::set_isa(core::isa_name(isa));
            check_select(x, 2, n, k);
            check_threshold(x, 2, n, k);
        }
        core::set_isa("auto");
    }
}

TEST(topk_is_right_where_the_sample_misleads) {
    // The sample of a long row is regular: put all large values where it never looks.
    const int64_t n = 8 * 1024, k = n / 4;
    Rows x{Memory(n * 4), {}};
    for (int64_t i = 0; i < n; ++i) set_value(x.memory.data(), i, DType::F32, i % 8 == 0 ? -1.0f : 1.0f + static_cast<float>(i));
    x.span = make_span(x.memory.data(), DType::F32, {1, n});
    for (int64_t wanted : {k, n / 100, int64_t{1}}) {  // few are looked for among candidates, of which there are too many
        check_select(x, 1, n, wanted);
        check_threshold(x, 1, n, wanted);
    }
    // Or all where it looks: too few candidates.
    for (int64_t i = 0; i < n; ++i) set_value(x.memory.data(), i, DType::F32, i % 8 == 0 ? 1.0f : 0.0f);
    set_value(x.memory.data(), 0, DType::F32, 2.0f);
    check_select(x, 1, n, n / 64);
}

TEST(topk_of_rows_too_long_to_keep_digits_of) {
    const int64_t n = (int64_t{1} << 20) + 77;
    for (DType dtype : {DType::F32, DType::BF16}) {
        const Rows x = random_rows(1, n, dtype);
        for (int64_t k : {int64_t{3}, n / 3}) {
            check_select(x, 1, n, k);
            check_threshold(x, 1, n, k);
        }
    }
}

// Values that share their upper 16 bits are told apart by the lower ones, where the tie is cut by index.
TEST(topk_tells_close_values_apart) {
    for (int round = 0; round < 40; ++round) {
        const int64_t n = harness::pick<int64_t>({1, 31, 32, 33, 500, 3000}), k = harness::integer(1, n);
        const uint32_t sign = harness::integer(0, 1) == 0 ? 0u : 0x80000000u;
        const int64_t spread = harness::pick<int64_t>({1, 2, 100, 65535, 70000});
        Rows x{Memory(n * 4), {}};
        for (int64_t i = 0; i < n; ++i) {
            const auto bits = sign | (0x3f800000u + static_cast<uint32_t>(harness::integer(0, spread)));
            set_value(x.memory.data(), i, DType::F32, core::bits_float(bits));
        }
        x.span = make_span(x.memory.data(), DType::F32, {1, n});
        for (core::Isa isa : core::available_isas()) {
            core::set_isa(core::isa_name(isa));
            check_select(x, 1, n, k);
            check_threshold(x, 1, n, k);
        }
        core::set_isa("auto");
    }
}

TEST(topk_checks_its_arguments) {
    Rows x = random_rows(2, 8, DType::F32);
    x.span = make_span(x.memory.data(), DType::F32, {2, 8});
    Memory values(2 * 3 * 4), indices(2 * 3 * 8);
    const Span vs = make_span(values.data(), DType::F32, {2, 3}), is = make_span(indices.data(), DType::I64, {2, 3});
    CHECK_ERROR("ShapeError", cpu::topk_select(x.span, 9, vs, is, 1));
    CHECK_ERROR("ShapeError", cpu::topk_select(x.span, -1, vs, is, 1));
    CHECK_ERROR("ShapeError", cpu::topk_select(x.span, 2, vs, is, 1));
    CHECK_ERROR("DtypeError", cpu::topk_select(x.span, 3, vs, make_span(indices.data(), DType::I32, {2, 3}), 1));
    CHECK_ERROR("DtypeError", cpu::topk_select(x.span, 3, make_span(values.data(), DType::F16, {2, 3}), is, 1));
    CHECK_ERROR("AliasingError", cpu::topk_select(x.span, 3, make_span(x.memory.data(), DType::F32, {2, 3}), is, 1));
    CHECK_ERROR("InvalidValueError", cpu::topk_select(x.span, 3, vs, is, 0));
    CHECK_ERROR("ShapeError", cpu::topk_threshold(x.span, 0, make_span(values.data(), DType::F32, {2}), 1));
}
