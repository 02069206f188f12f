// Layout 0 (stored form) and layout 1 (values with their columns, AVX-512).
#include <cstring>

#include "core/checked.h"
#include "core/error.h"
#include "cpu/bitmask_linear/bitmask_linear.h"
#include "cpu/stored_layout.h"

namespace sparsecore::cpu {

namespace {

using formats::Geometry;
using formats::Resident;
using formats::Sections;
using formats::Stored;

BitmaskWeight view(const Resident& resident) {
    const Geometry& g = resident.geometry;
    BitmaskWeight weight;
    weight.dtype = g.dtype;
    weight.rows = g.rows;
    weight.cols = g.cols;
    weight.nnz = g.kept;
    weight.values = resident.sections[0];
    weight.row_offsets = resident.section<int64_t>(2);
    return weight;
}

void linear_stored(const Resident& resident, const LinearCall& call) {
    BitmaskWeight weight = view(resident);
    weight.bitmask = resident.sections[1];
    bitmask_linear_stored(call, weight);
}

// Where a quarter or more is kept.
bool holds_bitmask(const Geometry& g) { return g.rows > 0 && g.cols > 0 && g.kept / g.rows >= g.cols / 4; }

Sections sizes(const Geometry& g) {
    const int64_t index_bytes = narrow_columns(g.cols) ? 2 : 4;
    return {4,
            {core::checked_mul(g.kept, core::itemsize(g.dtype), "values"),
             core::checked_mul(g.kept, index_bytes, "columns"), core::checked_mul(g.rows + 1, 8, "row offsets"),
             holds_bitmask(g) ? formats::part_bytes(g).positions : 0}};
}

bool supports(const Geometry& g) { return g.cols <= INT32_MAX; }
Sections sections(const Stored& stored) { return sizes(stored.geometry); }

void fill(const Stored& stored, const Resident& out) {
    const Geometry& g = stored.geometry;
    if (g.kept > 0) std::memcpy(out.sections[0], stored.values.data, static_cast<size_t>(out.section_bytes[0]));
    bitmask_to_columns(stored.positions.as<const uint8_t>(), g.rows, g.cols, out.sections[1]);
    auto* offsets = out.section<int64_t>(2);
    if (g.rows > 0) std::memcpy(offsets, stored.offsets.data, static_cast<size_t>(g.rows * 8));
    offsets[g.rows] = g.kept;
    if (out.section_bytes[3] > 0) {
        std::memcpy(out.sections[3], stored.positions.data, static_cast<size_t>(out.section_bytes[3]));
    }
}

// A damaged table is refused before its positions say where to write.
template <class Column>
void check_positions(const Resident& resident) {
    const Geometry& g = resident.geometry;
    const auto* columns = resident.section<const Column>(1);
    const auto* offsets = resident.section<const int64_t>(2);
    bool valid = offsets[0] == 0 && offsets[g.rows] == g.kept;
    for (int64_t row = 0; valid && row < g.rows; ++row) {
        valid = offsets[row] <= offsets[row + 1] && offsets[row + 1] <= g.kept;
        int64_t previous = -1;
        for (int64_t i = offsets[row]; valid && i < offsets[row + 1]; ++i) {
            const int64_t column = columns[i];
            valid = column > previous && column < g.cols;
            previous = column;
        }
    }
    if (!valid) {
        throw core::Error("IndexTableError", "columns or row offsets are damaged", "resident",
                          "ascending columns inside each row", "make it again from the stored form");
    }
}

void restore(const Resident& resident, const Stored& out) {
    const Geometry& g = resident.geometry;
    if (narrow_columns(g.cols)) {
        check_positions<uint16_t>(resident);
    } else {
        check_positions<uint32_t>(resident);
    }
    const auto* offsets = resident.section<const int64_t>(2);
    if (g.kept > 0) std::memcpy(out.values.data, resident.sections[0], static_cast<size_t>(resident.section_bytes[0]));
    if (g.rows > 0) std::memcpy(out.offsets.data, offsets, static_cast<size_t>(g.rows * 8));
    const int64_t mask_bytes = g.rows * (g.cols / 8 + (g.cols % 8 != 0));
    if (mask_bytes > 0) std::memset(out.positions.data, 0, static_cast<size_t>(mask_bytes));
    columns_to_bitmask(resident.sections[1], offsets, g.rows, g.cols, out.positions.as<uint8_t>());
    const int64_t held = resident.section_bytes[3];
    if (held > 0 && std::memcmp(resident.sections[3], out.positions.data, static_cast<size_t>(held)) != 0) {
        throw core::Error("IndexTableError", "bitmask and columns differ", "resident", "an unmodified resident weight",
                          "make it again from the stored form");
    }
}

void check(const Resident& resident) {
    const Sections expected = sizes(resident.geometry);
    bool same = resident.section_count == expected.count;
    for (int i = 0; same && i < expected.count; ++i) same = resident.section_bytes[i] == expected.bytes[i];
    if (!same) {
        throw core::Error("ResidentError", "section lengths do not fit the header", "resident",
                          "an unmodified resident weight", "make it again from the stored form");
    }
}

void linear_indexed(const Resident& resident, const LinearCall& call) {
    BitmaskWeight weight = view(resident);
    weight.columns = resident.sections[1];
    if (resident.section_bytes[3] > 0) weight.bitmask = resident.sections[3];
    bitmask_linear_indexed(call, weight);
}

}  // namespace

const std::vector<Layout>& bitmask_layouts() {
    static const std::vector<Layout> table = {
        stored_layout(formats::Kind::Bitmask, linear_stored),
        {formats::Kind::Bitmask, 1, core::Isa::Avx512, "indexed", supports, sections, fill, restore, check,
         linear_indexed},
    };
    return table;
}

}  // namespace sparsecore::cpu
