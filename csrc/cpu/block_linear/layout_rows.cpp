#include "cpu/block_linear/layout_rows.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "cpu/bitmask_linear/bitmask_linear.h"

namespace sparsecore::cpu {

namespace {

using formats::Geometry;
using formats::Resident;
using formats::Sections;
using formats::Stored;

// values, columns and counts as in bitmask_linear.h, row offsets [rows + 1], and the stored index tables, which tell how
// to get back.
enum Section { kValues, kColumns, kCounts, kRowOffsets, kBlockColumns, kBlockOffsets, kSections };

bool supports(const Geometry& g) { return g.p0 < kNarrowRows && g.cols <= INT32_MAX; }

// Room for whole blocks: what a ragged edge leaves over is not used.
Sections sizes(const Geometry& g) {
    const formats::PartBytes stored = part_bytes(g);
    const int64_t count = stored.values / core::itemsize(g.dtype);
    return {kSections,
            {stored.values, count, core::checked_mul(g.rows, chunk_count(g.cols), "counts"),
             core::checked_mul(core::checked_add(g.rows, 1, "rows"), 8, "row offsets"), stored.positions, stored.offsets}};
}

Sections sections(const Stored& stored) { return sizes(stored.geometry); }

void check(const Resident& resident) {
    const Sections expected = sizes(resident.geometry);
    if (resident.section_count != expected.count ||
        !std::equal(expected.bytes, expected.bytes + kSections, resident.section_bytes)) {
        throw core::Error("ResidentError", "section lengths do not fit the header", "resident",
                          "an unmodified resident weight", "make it again from the stored form");
    }
}

// body(row, place in the row-wise arrays, place in the blocks, column, length) for every row of every kept block.
template <class Body>
void for_pieces(const Geometry& g, const int32_t* block_columns, const int64_t* block_offsets, Body&& body) {
    int64_t place = 0;
    for (int64_t row = 0; row < g.rows; ++row) {
        const int64_t block_row = row / g.p0;
        for (int64_t b = block_offsets[block_row]; b < block_offsets[block_row + 1]; ++b) {
            const int64_t column = block_columns[b] * g.p1, length = std::min(g.p1, g.cols - column);
            body(row, place, (b * g.p0 + row % g.p0) * g.p1, column, length);
            place += length;
        }
    }
}

void fill(const Stored& stored, const Resident& out) {
    const Geometry& g = stored.geometry;
    const int64_t size = core::itemsize(g.dtype);
    auto* offsets = out.section<int64_t>(kRowOffsets);
    for_pieces(g, stored.positions.as<const int32_t>(), stored.offsets.as<const int64_t>(),
               [&](int64_t row, int64_t place, int64_t from, int64_t column, int64_t length) {
                   std::memcpy(out.sections[kValues] + place * size, stored.values.as<const uint8_t>() + from * size,
                               static_cast<size_t>(length * size));
                   for (int64_t i = 0; i < length; ++i) {
                       out.sections[kColumns][place + i] = static_cast<uint8_t>((column + i) % kChunk);
                       ++out.sections[kCounts][row * chunk_count(g.cols) + (column + i) / kChunk];
                   }
                   offsets[row + 1] += length;
               });
    for (int64_t row = 0; row < g.rows; ++row) offsets[row + 1] += offsets[row];
    const core::Span* tables[] = {&stored.positions, &stored.offsets};
    for (int i = 0; i < 2; ++i) {
        const int64_t bytes = out.section_bytes[kBlockColumns + i];
        if (bytes > 0) std::memcpy(out.sections[kBlockColumns + i], tables[i]->data, static_cast<size_t>(bytes));
    }
}

// A damaged table is refused before its positions say where to read.
void check_tables(const Resident& resident) {
    const Geometry& g = resident.geometry;
    const auto* columns = resident.section<const int32_t>(kBlockColumns);
    const auto* offsets = resident.section<const int64_t>(kBlockOffsets);
    const int64_t block_rows = core::ceil_div(g.rows, g.p0), block_columns = core::ceil_div(g.cols, g.p1);
    bool valid = offsets[0] == 0 && offsets[block_rows] == g.kept;
    for (int64_t row = 0; valid && row < block_rows; ++row) {
        valid = offsets[row] <= offsets[row + 1] && offsets[row + 1] <= g.kept;
        for (int64_t b = offsets[row]; valid && b < offsets[row + 1]; ++b) {
            valid = columns[b] >= 0 && columns[b] < block_columns && (b == offsets[row] || columns[b - 1] < columns[b]);
        }
    }
    if (!valid) {
        throw core::Error("IndexTableError", "block columns or offsets are damaged", "resident",
                          "ascending columns inside each block row", "make it again from the stored form");
    }
}

// The row-wise tables are what the stored ones make of them.
void check_rows(const Resident& resident) {
    const Geometry& g = resident.geometry;
    const auto* offsets = resident.section<const int64_t>(kRowOffsets);
    std::vector<uint8_t> counts(static_cast<size_t>(resident.section_bytes[kCounts]));
    int64_t current = 0, start = 0, end = 0;  // of the row that the pieces are in
    bool valid = offsets[0] == 0;
    const auto finish_rows = [&](int64_t row) {
        for (; current < row; ++current, start = end) {
            valid = valid && offsets[current] == start && offsets[current + 1] == end;
        }
    };
    for_pieces(g, resident.section<const int32_t>(kBlockColumns), resident.section<const int64_t>(kBlockOffsets),
               [&](int64_t row, int64_t place, int64_t, int64_t column, int64_t length) {
                   finish_rows(row);
                   end += length;
                   for (int64_t i = 0; i < length; ++i) {
                       valid = valid && resident.sections[kColumns][place + i] == (column + i) % kChunk;
                       ++counts[static_cast<size_t>(row * chunk_count(g.cols) + (column + i) / kChunk)];
                   }
               });
    finish_rows(g.rows);
    if (!valid || !std::equal(counts.begin(), counts.end(), resident.sections[kCounts])) {
        throw core::Error("IndexTableError", "columns, counts or row offsets are damaged", "resident",
                          "an unmodified resident weight", "make it again from the stored form");
    }
}

void restore(const Resident& resident, const Stored& out) {
    check_tables(resident);
    check_rows(resident);
    const Geometry& g = resident.geometry;
    const int64_t size = core::itemsize(g.dtype);
    if (out.values.bytes > 0) std::memset(out.values.data, 0, static_cast<size_t>(resident.section_bytes[kValues]));
    for_pieces(g, resident.section<const int32_t>(kBlockColumns), resident.section<const int64_t>(kBlockOffsets),
               [&](int64_t, int64_t place, int64_t to, int64_t, int64_t length) {
                   std::memcpy(out.values.as<uint8_t>() + to * size, resident.sections[kValues] + place * size,
                               static_cast<size_t>(length * size));
               });
    const core::Span* tables[] = {&out.positions, &out.offsets};
    for (int i = 0; i < 2; ++i) {
        const int64_t bytes = resident.section_bytes[kBlockColumns + i];
        if (bytes > 0) std::memcpy(tables[i]->data, resident.sections[kBlockColumns + i], static_cast<size_t>(bytes));
    }
}

void linear(const Resident& resident, const LinearCall& call) {
    const Geometry& g = resident.geometry;
    BitmaskWeight weight;
    weight.dtype = g.dtype;
    weight.rows = g.rows;
    weight.cols = g.cols;
    weight.values = resident.sections[kValues];
    weight.columns = resident.sections[kColumns];
    weight.counts = resident.sections[kCounts];
    weight.row_offsets = resident.section<int64_t>(kRowOffsets);
    weight.nnz = weight.row_offsets[g.rows];
    bitmask_linear_avx512(call, weight);
}

}  // namespace

Layout block_rows_layout() {
    return {formats::Kind::Block, 2, core::Isa::Avx512, "rows", supports, sections, fill, restore, check, linear};
}

}  // namespace sparsecore::cpu
