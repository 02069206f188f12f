// One sparse weight in its stored form, whatever the kind: values, positions, (not for N:M) offsets and (int8, fp8) scales.
#pragma once

#include <cstdint>
#include <string>

#include "core/span.h"

namespace sparsecore::formats {

// Columns of a quantised weight: a sum of so many products of two int8 values in [-127, 127] fits 32 bits; one of two e4m3
// values, a multiple of 2^-18 of at most 448^2 each, is exact in a double.
constexpr int64_t kMaxQuantisedCols = 2147483647 / (127 * 127);

enum class Kind : uint32_t { NM = 0, Bitmask = 1, Block = 2 };

const char* kind_name(Kind kind);  // "nm", "bitmask", "block"
Kind parse_kind(const std::string& name);

// What is known of a weight without reading it.
struct Geometry {
    Kind kind = Kind::NM;
    core::DType dtype = core::DType::F32;
    int64_t rows = 0, cols = 0;
    int64_t p0 = 0, p1 = 0;  // n, m or block rows, block columns; 0, 0 for bitmask
    int64_t kept = 0;        // values stored (block: blocks stored)
    bool codes = false;      // N:M only: positions are codes, not a bitmask
};

struct Stored {
    Geometry geometry;
    core::Span values;     // compressed | compressed | blocks
    core::Span positions;  // bitmask or codes | bitmask | block_cols
    core::Span offsets;    // empty | row_offsets | block_row_offsets
    core::Span scales;     // int8, fp8: f32 [rows], weight = value * scale of its row; else empty
};

constexpr int kStoredParts = 4;

// The names of the tensors in files and dictionaries; null where a weight has no such tensor.
struct PartNames {
    const char* values;
    const char* positions;
    const char* offsets;
    const char* scales;
};
PartNames part_names(const Geometry& geometry);

// Bytes of the parts that a geometry needs (overflow checked).
struct PartBytes {
    int64_t values, positions, offsets, scales;
};
PartBytes part_bytes(const Geometry& geometry);

// Spans over memory laid out as part_bytes says.
Stored stored_view(const Geometry& geometry, void* values, void* positions, void* offsets, void* scales = nullptr);

// Shapes and element types of the spans fit the geometry: O(1).
void check_stored_shapes(const Stored& stored);
// check_stored_shapes and every position, offset, quantised value and scale.
void validate_stored(const Stored& stored);

// Unpacks a validated weight into dense [rows, cols]; quantised values without their scales.
void stored_to_dense(const Stored& stored, const core::Span& dense);

}  // namespace sparsecore::formats
