#include "cuda/block_linear/layout.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "cuda/block_linear/place.h"
#include "formats/block.h"

namespace sparsecore::cuda {

namespace {

using block::kBandRows;
using block::kRowTile;
using formats::Geometry;

constexpr int kTables = 3;  // sections of every block weight; the others are of those for tensor cores

bool is_tile(int64_t size) { return size == 16 || size == 32 || size == 64 || size == 128; }
bool has_bands(const Geometry& g) { return block_fits_tensor_cores(g.dtype, g.p0, g.p1); }
int64_t block_rows_of(const Geometry& g) { return core::ceil_div(g.rows, g.p0); }
int64_t bands_of(const Geometry& g) { return core::ceil_div(block_rows_of(g), kBandRows / g.p0); }

struct Bands {
    std::vector<int32_t> rows;
    std::vector<int64_t> step_offsets{0};
    std::vector<uint32_t> steps;  // in the end with the zeros that fill up its section
};

// The steps of one band: its block rows' ascending columns merged.
void add_steps(Bands& bands, const int32_t* rows, int count, const int64_t* offsets, const int32_t* columns) {
    const int tiles = block::kStepTileBits / count;  // row tiles of a block row
    std::vector<int64_t> next(static_cast<size_t>(count), 0), end(next);
    for (int i = 0; i < count; ++i) {
        if (rows[i] < 0) continue;
        next[static_cast<size_t>(i)] = offsets[rows[i]];
        end[static_cast<size_t>(i)] = offsets[rows[i] + 1];
    }
    for (;;) {
        int32_t column = INT32_MAX;
        for (size_t i = 0; i < next.size(); ++i) {
            if (next[i] < end[i]) column = std::min(column, columns[next[i]]);
        }
        if (column == INT32_MAX) break;
        uint32_t step = static_cast<uint32_t>(column) << block::kStepTileBits;
        for (size_t i = 0; i < next.size(); ++i) {
            if (next[i] >= end[i] || columns[next[i]] != column) continue;
            step |= ((1u << tiles) - 1) << (static_cast<int>(i) * tiles);
            ++next[i];
        }
        bands.steps.push_back(step);
    }
    bands.step_offsets.push_back(static_cast<int64_t>(bands.steps.size()));
}

Bands make_bands(const Geometry& g, const int64_t* offsets, const int32_t* columns) {
    const int64_t block_rows = block_rows_of(g);
    const int in_band = static_cast<int>(kBandRows / g.p0);
    Bands bands;
    bands.rows.assign(static_cast<size_t>(bands_of(g) * in_band), -1);
    std::iota(bands.rows.begin(), bands.rows.begin() + block_rows, 0);
    std::stable_sort(bands.rows.begin(), bands.rows.begin() + block_rows, [&](int32_t a, int32_t b) {
        return offsets[a + 1] - offsets[a] > offsets[b + 1] - offsets[b];
    });
    for (size_t first = 0; first < bands.rows.size(); first += static_cast<size_t>(in_band)) {
        add_steps(bands, bands.rows.data() + first, in_band, offsets, columns);
    }
    bands.steps.resize(static_cast<size_t>(g.kept), 0);
    return bands;
}

// Calls body(vector, section) for the tables of bands.
template <class Body>
void for_tables(const Bands& bands, Body&& body) {
    body(bands.rows, kTables);
    body(bands.step_offsets, kTables + 1);
    body(bands.steps, kTables + 2);
}

// Copies whole blocks in their 16-byte units, between the stored order and that of place.h.
void exchange_units(const Geometry& g, const uint16_t* from, uint16_t* to, bool packs) {
    const int height = static_cast<int>(g.p0), width = static_cast<int>(g.p1);
    for (int64_t b = 0; b < g.kept; ++b) {
        for (int y = 0; y < height; ++y) {
            for (int unit = 0; unit < width / kUnit; ++unit) {
                const int64_t plain = y * width + unit * kUnit, placed = block::unit_place(height, width, y, unit);
                std::memcpy(to + b * height * width + (packs ? placed : plain),
                            from + b * height * width + (packs ? plain : placed), kUnit * sizeof(uint16_t));
            }
        }
    }
}

void copy(void* to, const void* from, int64_t bytes) {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace

bool block_fits_tensor_cores(core::DType dtype, int64_t height, int64_t width) {
    return core::is_float(dtype) && core::itemsize(dtype) == 2 && is_tile(height) && is_tile(width);
}

formats::Sections block_sections(const Geometry& g) {
    formats::block_check_pattern(g.p0, g.p1);
    constexpr int64_t kMostColumns = int64_t{1} << (32 - block::kStepTileBits), kMostRows = int64_t{kRowTile} * INT32_MAX;
    if (core::ceil_div(g.cols, g.p1) > kMostColumns || g.rows > kMostRows) {
        throw core::Error("ShapeError", "weight of " + std::to_string(g.rows) + " x " + std::to_string(g.cols), "shape",
                          std::to_string(kMostRows) + " rows and " + std::to_string(kMostColumns) + " block columns at most");
    }
    const int64_t size = core::checked_mul(g.p0 * g.p1, core::itemsize(g.dtype), "resident weight");
    formats::Sections sections;
    sections.count = kTables;
    sections.bytes[0] = core::checked_mul(g.kept, size, "resident weight");
    sections.bytes[1] = core::checked_mul(g.kept, sizeof(int32_t), "resident weight");
    sections.bytes[2] = core::checked_mul(block_rows_of(g) + 1, sizeof(int64_t), "resident weight");
    if (!has_bands(g)) return sections;
    sections.count = kTables + 3;
    sections.bytes[kTables] = bands_of(g) * (kBandRows / g.p0) * static_cast<int64_t>(sizeof(int32_t));
    sections.bytes[kTables + 1] = (bands_of(g) + 1) * static_cast<int64_t>(sizeof(int64_t));
    sections.bytes[kTables + 2] = core::checked_mul(g.kept, sizeof(uint32_t), "resident weight");
    return sections;
}

void fill_block(const formats::Stored& stored, const formats::Resident& out) {
    const Geometry& g = stored.geometry;
    copy(out.sections[1], stored.positions.data, out.section_bytes[1]);
    copy(out.sections[2], stored.offsets.data, out.section_bytes[2]);
    if (!has_bands(g)) return copy(out.sections[0], stored.values.data, out.section_bytes[0]);
    exchange_units(g, stored.values.as<const uint16_t>(), out.section<uint16_t>(0), true);
    for_tables(make_bands(g, stored.offsets.as<const int64_t>(), stored.positions.as<const int32_t>()),
               [&](const auto& table, int section) {
                   copy(out.sections[section], table.data(), static_cast<int64_t>(table.size() * sizeof table[0]));
               });
}

void read_block(const formats::Resident& resident, const formats::Stored& out) {
    const Geometry& g = resident.geometry;
    copy(out.positions.data, resident.sections[1], resident.section_bytes[1]);
    copy(out.offsets.data, resident.sections[2], resident.section_bytes[2]);
    if (has_bands(g)) {
        exchange_units(g, resident.section<const uint16_t>(0), out.values.as<uint16_t>(), false);
    } else {
        copy(out.values.data, resident.sections[0], resident.section_bytes[0]);
    }
    formats::block_validate(out.values, out.positions, out.offsets, g.rows, g.cols);  // before the tables are followed
    if (!has_bands(g)) return;
    for_tables(make_bands(g, out.offsets.as<const int64_t>(), out.positions.as<const int32_t>()),
               [&](const auto& table, int section) {
                   const size_t bytes = table.size() * sizeof table[0];
                   if (bytes > 0 && std::memcmp(resident.sections[section], table.data(), bytes) != 0) {
                       throw core::Error("ResidentError", "a table of the bands does not fit the blocks", "resident",
                                         "an unmodified resident weight", "make it again from the stored form");
                   }
               });
}

}  // namespace sparsecore::cuda
