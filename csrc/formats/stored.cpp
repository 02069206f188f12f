#include "formats/stored.h"

#include <cmath>
#include <limits>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/error.h"
#include "formats/bitmask.h"
#include "formats/bits.h"
#include "formats/block.h"
#include "formats/nm.h"

namespace sparsecore::formats {

using core::checked_add;
using core::checked_mul;
using core::DType;
using core::Error;
using core::Span;

const char* kind_name(Kind kind) {
    constexpr const char* names[] = {"nm", "bitmask", "block"};
    return names[static_cast<uint32_t>(kind)];
}

Kind parse_kind(const std::string& name) {
    for (Kind kind : {Kind::NM, Kind::Bitmask, Kind::Block}) {
        if (name == kind_name(kind)) return kind;
    }
    throw Error("InvalidValueError", "unknown kind of weight '" + name + "'", "kind", "nm, bitmask or block");
}

PartNames part_names(const Geometry& g) {
    const char* scales = core::is_quantised(g.dtype) ? "scales" : nullptr;
    switch (g.kind) {
        case Kind::NM: return {"compressed", g.codes ? "codes" : "bitmask", nullptr, scales};
        case Kind::Bitmask: return {"compressed", "bitmask", "row_offsets", scales};
        case Kind::Block: return {"blocks", "block_cols", "block_row_offsets", scales};
    }
    return {nullptr, nullptr, nullptr, nullptr};
}

namespace {

void check_geometry(const Geometry& g) {
    if (g.rows < 0 || g.cols < 0 || g.kept < 0) {
        throw Error("ShapeError", "negative size", "rows, cols, kept", "0 or more");
    }
    constexpr int64_t most = std::numeric_limits<int32_t>::max();  // columns are kept in 32 bits
    if (g.rows > most || g.cols > most) {
        throw Error("ShapeError", "weight is too large", "rows, cols", "at most " + std::to_string(most));
    }
    if (!core::is_float(g.dtype) && !core::is_quantised(g.dtype)) {
        throw Error("DtypeError", std::string("wrong element type ") + core::dtype_name(g.dtype), "weight",
                    "f32, f16, bf16, i8 or f8");
    }
    if (core::is_quantised(g.dtype) && g.cols > kMaxQuantisedCols) {
        throw Error("ShapeError", "a quantised weight of " + std::to_string(g.cols) + " columns", "cols",
                    "at most " + std::to_string(kMaxQuantisedCols) + ", so that sums are exact");
    }
}

}  // namespace

PartBytes part_bytes(const Geometry& g) {
    check_geometry(g);
    const int64_t size = core::itemsize(g.dtype);
    const char* what = "stored weight";
    const int64_t scales = core::is_quantised(g.dtype) ? checked_mul(g.rows, 4, what) : 0;
    switch (g.kind) {
        case Kind::NM: {
            const int64_t kept = nm_kept_per_row(g.cols, g.p0, g.p1);
            const int64_t position_bytes = g.codes ? nm_code_bytes(kept, g.p1) : bitmask_bytes(g.cols);
            return {checked_mul(checked_mul(g.rows, kept, what), size, what), checked_mul(g.rows, position_bytes, what),
                    0, scales};
        }
        case Kind::Bitmask:
            return {checked_mul(g.kept, size, what), checked_mul(g.rows, bitmask_bytes(g.cols), what),
                    checked_mul(g.rows, 8, what), scales};
        case Kind::Block: {
            block_check_pattern(g.p0, g.p1);
            const int64_t area = checked_mul(g.p0, g.p1, what);
            return {checked_mul(checked_mul(g.kept, area, what), size, what), checked_mul(g.kept, 4, what),
                    checked_mul(checked_add(core::ceil_div(g.rows, g.p0), 1, what), 8, what), scales};
        }
    }
    return {0, 0, 0, 0};
}

Stored stored_view(const Geometry& g, void* values, void* positions, void* offsets, void* scales) {
    part_bytes(g);  // checks the geometry, overflow included
    Stored stored;
    stored.geometry = g;
    if (core::is_quantised(g.dtype)) stored.scales = make_span(scales, DType::F32, {g.rows});
    switch (g.kind) {
        case Kind::NM: {
            const int64_t kept = nm_kept_per_row(g.cols, g.p0, g.p1);
            const int64_t position_bytes = g.codes ? nm_code_bytes(kept, g.p1) : bitmask_bytes(g.cols);
            stored.values = make_span(values, g.dtype, {g.rows, kept});
            stored.positions = make_span(positions, DType::U8, {g.rows, position_bytes});
            break;
        }
        case Kind::Bitmask:
            stored.values = make_span(values, g.dtype, {g.kept});
            stored.positions = make_span(positions, DType::U8, {g.rows, bitmask_bytes(g.cols)});
            stored.offsets = make_span(offsets, DType::I64, {g.rows});
            break;
        case Kind::Block:
            stored.values = make_span(values, g.dtype, {g.kept, g.p0, g.p1});
            stored.positions = make_span(positions, DType::I32, {g.kept});
            stored.offsets = make_span(offsets, DType::I64, {core::ceil_div(g.rows, g.p0) + 1});
            break;
    }
    return stored;
}

namespace {

void check_part(const Span& part, const Span& expected, const char* name) {
    if (name == nullptr) return;
    require_dtype(part, name, expected.dtype);
    check_span(part, name);
    bool same = part.ndim == expected.ndim;
    for (int d = 0; same && d < part.ndim; ++d) same = part.shape[d] == expected.shape[d];
    if (!same) throw Error("ShapeError", "wrong shape " + shape_text(part), name, shape_text(expected));
    require_contiguous(part, name);
}

void check_quantised(const Stored& stored) {
    const auto* scales = stored.scales.as<const float>();
    for (int64_t row = 0; row < stored.geometry.rows; ++row) {
        if (!(scales[row] > 0.0f && std::isfinite(scales[row]))) {
            throw Error("InvalidValueError", "the scale of row " + std::to_string(row) + " is " +
                        std::to_string(scales[row]), "scales", "finite numbers above 0");
        }
    }
    const bool is_int8 = stored.geometry.dtype == DType::I8;
    const auto* values = stored.values.as<const uint8_t>();
    for (int64_t i = 0, count = element_count(stored.values); i < count; ++i) {
        if (is_int8 ? values[i] == 0x80 : core::is_e4m3_nan(values[i])) {
            throw Error("InvalidValueError", is_int8 ? "an int8 value is -128" : "an fp8 value is NaN",
                        part_names(stored.geometry).values, is_int8 ? "values in [-127, 127]" : "finite values");
        }
    }
}

}  // namespace

void check_stored_shapes(const Stored& stored) {
    const Geometry& g = stored.geometry;
    const Stored expected = stored_view(g, nullptr, nullptr, nullptr);
    const PartNames names = part_names(g);
    check_part(stored.values, expected.values, names.values);
    check_part(stored.positions, expected.positions, names.positions);
    check_part(stored.offsets, expected.offsets, names.offsets);
    check_part(stored.scales, expected.scales, names.scales);
}

void validate_stored(const Stored& stored) {
    check_stored_shapes(stored);
    const Geometry& g = stored.geometry;
    if (core::is_quantised(g.dtype)) check_quantised(stored);
    switch (g.kind) {
        case Kind::NM:
            if (g.codes) {
                nm_validate_codes(stored.positions, g.cols, g.p0, g.p1);
            } else {
                nm_validate_bitmask(stored.positions, g.cols, g.p0, g.p1);
            }
            return;
        case Kind::Bitmask: bitmask_validate(stored.values, stored.positions, stored.offsets, g.cols); return;
        case Kind::Block: block_validate(stored.values, stored.positions, stored.offsets, g.rows, g.cols); return;
    }
}

void stored_to_dense(const Stored& stored, const Span& dense) {
    check_stored_shapes(stored);
    const Geometry& g = stored.geometry;
    require_dtype(dense, "dense", g.dtype);
    require_matrix(dense, "dense", g.rows, g.cols);
    if (g.kind == Kind::Bitmask) return bitmask_unpack(stored.values, stored.positions, stored.offsets, dense);
    if (g.kind == Kind::Block) return block_unpack(stored.values, stored.positions, stored.offsets, dense);
    if (!g.codes) return nm_unpack(stored.values, stored.positions, g.p0, g.p1, dense);
    core::AlignedBuffer mask(core::checked_mul(g.rows, bitmask_bytes(g.cols), "bitmask"));
    const Span bitmask = make_span(mask.as<void>(), DType::U8, {g.rows, bitmask_bytes(g.cols)});
    nm_codes_to_bitmask(stored.positions, g.cols, g.p0, g.p1, bitmask);
    nm_unpack(stored.values, bitmask, g.p0, g.p1, dense);
}

}  // namespace sparsecore::formats
