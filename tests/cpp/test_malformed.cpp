// What a file or a caller can get wrong: an Error of the right kind, and under a sanitizer no access outside.
#include <array>
#include <limits>

#include "cpu/layout.h"
#include "cpu/linear.h"
#include "cuda/resident.h"
#include "harness.h"
#include "weights.h"

using namespace sparsecore;
using namespace weights;

namespace {

Resident make_resident(Weight& weight, core::Isa isa) {
    Resident resident(cpu::resident_size(weight.stored(), isa));
    cpu::resident_make(weight.stored(), isa, resident.span);
    return resident;
}

}  // namespace

TEST(nm_pack_refuses_a_weight_of_another_pattern) {
    Memory dense(3 * 8 * 4), values(3 * 4 * 4), mask(3);
    for (int i : {8, 9, 10}) set_value(dense.data(), i, DType::F32, 1.0f);
    const Span in = make_span(dense.data(), DType::F32, {3, 8}), bits = make_span(mask.data(), DType::U8, {3, 1});
    try {
        formats::nm_pack(in, 2, 4, make_span(values.data(), DType::F32, {3, 4}), bits);
        CHECK(false);
    } catch (const core::Error& error) {
        CHECK(error.kind == "PatternError" && error.where.find("row 1, group 0") != std::string::npos);
    }
    CHECK_ERROR("ShapeError", formats::nm_pack(in, 2, 4, make_span(values.data(), DType::F32, {3, 3}), bits));
    CHECK_ERROR("PatternError", formats::nm_check_pattern(4, 4));
    CHECK_ERROR("PatternError", formats::nm_check_pattern(1, 33));
    CHECK_ERROR("PatternError", formats::nm_check_pattern(0, 4));
}

TEST(nm_positions_are_validated) {
    for (bool codes : {false, true}) {
        for (int round = 0; round < 50; ++round) {
            Weight weight = random_nm(harness::integer(1, 9), harness::integer(5, 70), 2, 4, DType::F32, codes);
            const auto size = static_cast<int64_t>(weight.positions.bytes.size());
            const auto place = static_cast<size_t>(harness::integer(0, size - 1));
            const Memory good = weight.positions;
            weight.positions.bytes[place] ^= static_cast<uint8_t>(1u << harness::integer(0, 7));
            if (!codes) {  // one flipped bit always changes a count or the padding
                CHECK_ERROR("IndexTableError", validate_stored(weight.stored()));
            }
            weight.positions = good;
            std::fill(weight.positions.bytes.begin(), weight.positions.bytes.end(), uint8_t{0xff});
            CHECK_ERROR("IndexTableError", validate_stored(weight.stored()));
            CHECK_ERROR("IndexTableError", Resident r(cpu::resident_size(weight.stored(), core::runtime_isa()));
                        cpu::resident_make(weight.stored(), core::runtime_isa(), r.span));
        }
    }
}

TEST(bitmask_and_block_tables_are_validated) {
    Weight bitmask = random_bitmask(9, 37, DType::F16, 0.4);
    bitmask.positions.bytes[4] |= 0x80;  // a column past the last one
    CHECK_ERROR("IndexTableError", validate_stored(bitmask.stored()));
    bitmask = random_bitmask(9, 37, DType::F16, 0.4);
    bitmask.stored().offsets.as<int64_t>()[8] = std::numeric_limits<int64_t>::max();
    CHECK_ERROR("IndexTableError", validate_stored(bitmask.stored()));

    for (int64_t wrong : {int64_t{-1}, int64_t{1} << 40, std::numeric_limits<int64_t>::min()}) {
        Weight block = random_block(30, 30, 4, 4, DType::F32, 0.5);
        block.stored().offsets.as<int64_t>()[harness::integer(0, 8)] = wrong;
        CHECK_ERROR("IndexTableError", validate_stored(block.stored()));
    }
    for (int32_t wrong : {-1, 8, std::numeric_limits<int32_t>::max()}) {
        Weight block = random_block(30, 30, 4, 4, DType::F32, 1.0);
        block.stored().positions.as<int32_t>()[harness::integer(0, 63)] = wrong;
        CHECK_ERROR("IndexTableError", validate_stored(block.stored()));
    }
    Weight block = random_block(30, 30, 4, 4, DType::F32, 1.0);
    set_value(block.values.data(), block.geometry.kept * 16 - 1, DType::F32, 1.0f);  // padding of the last block
    CHECK_ERROR("PatternError", validate_stored(block.stored()));
}

TEST(short_spans_are_refused_everywhere) {
    Weight weight = random_nm(20, 40, 2, 4, DType::F32, false);
    Stored stored = weight.stored();
    stored.values.bytes -= 1;
    CHECK_ERROR("SpanError", validate_stored(stored));
    stored = weight.stored();
    stored.values.shape[0] = 19;
    CHECK_ERROR("ShapeError", validate_stored(stored));
    stored = weight.stored();
    stored.positions.dtype = DType::I8;
    CHECK_ERROR("DtypeError", validate_stored(stored));
    stored = weight.stored();
    stored.geometry.rows = std::numeric_limits<int64_t>::max();
    CHECK_ERROR("ShapeError", validate_stored(stored));
    Weight block = random_block(30, 30, 4, 4, DType::F32, 1.0);
    stored = block.stored();
    stored.geometry.kept = std::numeric_limits<int64_t>::max() / 8;
    CHECK_ERROR("SpanError", validate_stored(stored));
}

TEST(damaged_residents_are_refused) {
    for (core::Isa isa : core::available_isas()) {
        Weight weight = random_nm(33, 70, 2, 4, DType::F32, false);
        Resident good = make_resident(weight, isa);
        auto* bytes = good.buffer.as<uint8_t>();
        for (int i = 0; i < 216; ++i) {  // every byte of the header counts
            bytes[i] ^= 1;
            CHECK_ERROR("ResidentError", cpu::resident_open(good.span));
            bytes[i] ^= 1;
        }
        cpu::resident_open(good.span);
        Span shorter = good.span;
        shorter.shape[0] -= 64;
        CHECK_ERROR("ResidentError", cpu::resident_open(shorter));
        shorter.shape[0] = 10;
        CHECK_ERROR("ResidentError", cpu::resident_open(shorter));
        Span shifted = good.span;
        shifted.data = bytes + 8;
        shifted.shape[0] -= 8;
        shifted.bytes -= 8;
        CHECK_ERROR("SpanError", cpu::resident_open(shifted));
    }
}

TEST(weights_laid_out_for_a_gpu_are_refused_on_the_cpu) {
    const DType dtype = harness::pick<DType>({DType::BF16, DType::F16});
    for (Weight& weight : std::array<Weight, 3>{random_nm(128, 256, 2, 4, dtype, false), random_block(128, 256, 32, 32, dtype, 0.5),
                                                random_bitmask(160, 640, dtype, 0.5)}) {
        Resident resident(cuda::resident_size(weight.stored()));
        cuda::resident_make(weight.stored(), resident.span);
        CHECK(cuda::is_cuda_layout(formats::open_resident(resident.span)));
        CHECK_ERROR("ResidentError", cpu::resident_open(resident.span));
    }
}

TEST(damaged_sections_never_reach_outside) {
    // Not seen by the O(1) check of a call, but neither may it crash; resident_validate finds most of it.
    for (int round = 0; round < 60; ++round) {
        const int64_t m = harness::integer(2, 32);
        Weight weight = random_nm(harness::integer(1, 40), harness::integer(1, 90), harness::integer(1, m - 1), m,
                                  random_float_type(), harness::integer(0, 1) == 1);
        for (core::Isa isa : core::available_isas()) {
            Resident resident = make_resident(weight, isa);
            for (int64_t i = 256; i < resident.span.shape[0]; ++i) {
                resident.buffer.as<uint8_t>()[i] = static_cast<uint8_t>(harness::random()());
            }
            const int64_t tokens = harness::integer(1, 20);
            const Geometry& g = weight.geometry;
            Memory x(tokens * g.cols * itemsize(g.dtype)), out(tokens * g.rows * itemsize(g.dtype));
            cpu::packed_linear(make_span(x.data(), g.dtype, {tokens, g.cols}), resident.span, nullptr,
                               make_span(out.data(), g.dtype, {tokens, g.rows}), "none", 2);
            try {
                cpu::resident_validate(resident.span);
            } catch (const core::Error& error) {
                CHECK(error.kind == "IndexTableError");
            }
        }
    }
}
