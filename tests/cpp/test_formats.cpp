#include "cpu/layout.h"
#include "harness.h"
#include "weights.h"

using namespace sparsecore;
using namespace weights;

TEST(pack_and_unpack_give_the_same_values) {
    for (int round = 0; round < 300; ++round) {
        Weight weight = random_any();
        const Geometry& g = weight.geometry;
        validate_stored(weight.stored());
        Memory back(g.rows * g.cols * itemsize(g.dtype));
        stored_to_dense(weight.stored(), make_span(back.data(), g.dtype, {g.rows, g.cols}));
        for (int64_t i = 0; i < g.rows * g.cols; ++i) {
            CHECK(core::load_float(back.data(), i, g.dtype) == core::load_float(weight.dense.data(), i, g.dtype));
        }
        // N:M keeps the sign of a zero as well, as long as there is room for it, and random_nm_dense leaves room
        if (g.kind == Kind::NM) CHECK(back.bytes == weight.dense.bytes);
    }
}

TEST(nm_keeps_exactly_n_and_prefers_nonzero_then_negative_zero_then_first) {
    const float row[8] = {0.0f, 0.0f, -0.0f, 5.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    float values[4];
    uint8_t mask = 0;
    formats::nm_pack(make_span(const_cast<float*>(row), DType::F32, {1, 8}), 2, 4, make_span(values, DType::F32, {1, 4}),
            make_span(&mask, DType::U8, {1, 1}));
    CHECK(mask == 0b00111100);
    CHECK(std::signbit(values[0]) && values[1] == 5.0f && values[2] == 0.0f && values[3] == 0.0f);
}

TEST(nm_sizes_of_ragged_rows) {
    CHECK(formats::nm_kept_per_row(0, 2, 4) == 0 && formats::nm_kept_per_row(1, 2, 4) == 1);
    CHECK(formats::nm_kept_per_row(7, 2, 4) == 4 && formats::nm_kept_per_row(33, 31, 32) == 32);
    CHECK(formats::nm_code_bits(2) == 1 && formats::nm_code_bits(4) == 2 && formats::nm_code_bits(5) == 3);
    CHECK(formats::nm_code_bits(32) == 5 && formats::nm_code_bytes(3, 32) == 2);
}

TEST(every_resident_layout_gives_the_stored_form_back) {
    for (int round = 0; round < 300; ++round) {
        Weight weight = random_any();
        for (core::Isa isa : core::available_isas()) {
            Resident resident(cpu::resident_size(weight.stored(), isa));
            cpu::resident_make(weight.stored(), isa, resident.span);
            cpu::resident_validate(resident.span);
            Weight back = with_storage(weight.geometry, Memory());
            cpu::resident_to_stored(resident.span, back.stored());
            CHECK(back.values.bytes == weight.values.bytes);
            CHECK(back.positions.bytes == weight.positions.bytes);
            CHECK(back.offsets.bytes == weight.offsets.bytes);
        }
    }
}
