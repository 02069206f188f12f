#include "cuda/bitmask_linear/layout.h"

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "formats/bits.h"

namespace sparsecore::cuda {

namespace {

using namespace bitmask;
using formats::Geometry;

int64_t row_tiles_of(const Geometry& g) { return core::ceil_div(g.rows, int64_t{kTileRows}); }
int64_t column_tiles_of(const Geometry& g) { return core::ceil_div(g.cols, int64_t{kTileColumns}); }
int64_t tiles_of(const Geometry& g) { return core::checked_mul(row_tiles_of(g), column_tiles_of(g), "resident weight"); }

struct Element {
    int row, column;  // within the tile
};

// Element number `i` of a tile.
Element element_at(int i) {
    const int quad = i / 128, lane = i / 4 % 32;
    return {lane / 4 + quad % 2 * 8, lane % 4 * 16 + quad / 2 * 4 + i % 4};
}

bool test_mask(const uint32_t* words, int i) { return (words[i / 32] >> (i % 32) & 1) != 0; }

[[noreturn]] void damaged(const std::string& what, int64_t tile) {
    throw core::Error("ResidentError", what, "tile " + std::to_string(tile), "an unmodified resident weight",
                      "make it again from the stored form");
}

// Where the next value of each row of the weight lies in the stored form; tiles are met from left to right.
std::vector<int64_t> row_starts(const formats::Stored& stored) {
    const auto* offsets = stored.offsets.as<const int64_t>();
    return {offsets, offsets + stored.geometry.rows};
}

// Places of a tile's kept elements in the stored values, by row and column of the tile; rows go on behind them.
using Places = std::array<std::array<int64_t, kTileColumns>, kTileRows>;
void find_places(const formats::Stored& stored, int64_t row, int64_t column, std::vector<int64_t>& next, Places& places) {
    const Geometry& g = stored.geometry;
    for (int64_t r = row; r < g.rows && r < row + kTileRows; ++r) {
        const auto* bits = stored.positions.as<const uint8_t>() + r * formats::bitmask_bytes(g.cols);
        for (int64_t c = column; c < g.cols && c < column + kTileColumns; ++c) {
            int64_t& place = places[static_cast<size_t>(r - row)][static_cast<size_t>(c - column)];
            place = formats::test_bit(bits, c) ? next[static_cast<size_t>(r)]++ : -1;
        }
    }
}

// Calls body(tile, first row, first column) in the order of the tiles.
template <class Body>
void for_tiles(const Geometry& g, Body&& body) {
    int64_t tile = 0;
    for (int64_t row = 0; row < g.rows; row += kTileRows) {
        for (int64_t column = 0; column < g.cols; column += kTileColumns) body(tile++, row, column);
    }
}

// Masks and starts -> the stored bitmask, row offsets and, of what was counted, checks.
void read_masks(const formats::Resident& resident, const formats::Stored& out) {
    const Geometry& g = resident.geometry;
    const auto* masks = resident.section<const uint32_t>(1);
    const auto* starts = resident.section<const uint32_t>(2);
    const int64_t unit = kStartBytes / core::itemsize(g.dtype);
    std::vector<int64_t> counts(static_cast<size_t>(g.rows));
    if (out.positions.bytes > 0) std::memset(out.positions.data, 0, static_cast<size_t>(out.positions.bytes));
    int64_t start = 0, total = 0;
    for_tiles(g, [&](int64_t tile, int64_t row, int64_t column) {
        if (starts[tile] != start) damaged("the values start elsewhere", tile);
        int64_t kept = 0;
        for (int i = 0; i < kTileElements; ++i) {
            if (!test_mask(masks + tile * kMaskWords, i)) continue;
            const Element e = element_at(i);
            const int64_t r = row + e.row, c = column + e.column;
            if (r >= g.rows || c >= g.cols) damaged("an element outside the weight is kept", tile);
            formats::set_bit(out.positions.as<uint8_t>() + r * formats::bitmask_bytes(g.cols), c);
            ++counts[static_cast<size_t>(r)];
            ++kept;
        }
        start += core::ceil_div(kept, unit);
        total += kept;
    });
    if (starts[tiles_of(g)] != start || total != g.kept) damaged("another number of values", tiles_of(g));
    int64_t offset = 0;
    for (int64_t row = 0; row < g.rows; ++row) {
        out.offsets.as<int64_t>()[row] = offset;
        offset += counts[static_cast<size_t>(row)];
    }
}

}  // namespace

formats::Sections bitmask_sections(const Geometry& g) {
    const int64_t size = core::itemsize(g.dtype), tiles = tiles_of(g), filling = kStartBytes / size - 1;
    const int64_t values = core::checked_mul(core::checked_add(g.kept, core::checked_mul(tiles, filling, "resident weight"), "resident weight"),
                                             size, "resident weight");
    if (values / kStartBytes > INT64_C(0xffffffff) || row_tiles_of(g) > INT32_MAX) {
        throw core::Error("ShapeError", "weight of " + std::to_string(g.rows) + " x " + std::to_string(g.cols), "shape",
                          "at most 64 GB of values and 2^35 rows");
    }
    formats::Sections sections;
    sections.count = 3;
    sections.bytes[0] = values;
    sections.bytes[1] = core::checked_mul(tiles, kMaskWords * 4, "resident weight");
    sections.bytes[2] = (tiles + 1) * 4;
    return sections;
}

void fill_bitmask(const formats::Stored& stored, const formats::Resident& out) {
    const Geometry& g = stored.geometry;
    auto* masks = out.section<uint32_t>(1);
    auto* starts = out.section<uint32_t>(2);
    std::vector<int64_t> next = row_starts(stored);
    formats::for_element_type(g.dtype, "compressed", [&](auto element) {
        using Word = decltype(element);
        constexpr int64_t kStartElements = kStartBytes / static_cast<int64_t>(sizeof(Word));
        int64_t value = 0;
        Places places;
        for_tiles(g, [&](int64_t tile, int64_t row, int64_t column) {
            for (auto& line : places) line.fill(-1);
            find_places(stored, row, column, next, places);
            starts[tile] = static_cast<uint32_t>(value / kStartElements);
            for (int i = 0; i < kTileElements; ++i) {
                const Element e = element_at(i);
                const int64_t place = places[static_cast<size_t>(e.row)][static_cast<size_t>(e.column)];
                if (place < 0) continue;
                masks[tile * kMaskWords + i / 32] |= 1u << (i % 32);
                out.section<Word>(0)[value++] = stored.values.as<const Word>()[place];
            }
            value = core::ceil_div(value, kStartElements) * kStartElements;
        });
        starts[tiles_of(g)] = static_cast<uint32_t>(value / kStartElements);
    });
}

void read_bitmask(const formats::Resident& resident, const formats::Stored& out) {
    read_masks(resident, out);
    const Geometry& g = resident.geometry;
    const auto* masks = resident.section<const uint32_t>(1);
    const auto* starts = resident.section<const uint32_t>(2);
    std::vector<int64_t> next = row_starts(out);
    formats::for_element_type(g.dtype, "compressed", [&](auto element) {
        using Word = decltype(element);
        Places places;
        for_tiles(g, [&](int64_t tile, int64_t row, int64_t column) {
            find_places(out, row, column, next, places);
            const Word* value = resident.section<const Word>(0) + starts[tile] * (kStartBytes / sizeof(Word));
            for (int i = 0; i < kTileElements; ++i) {
                if (!test_mask(masks + tile * kMaskWords, i)) continue;
                const Element e = element_at(i);
                out.values.as<Word>()[places[static_cast<size_t>(e.row)][static_cast<size_t>(e.column)]] = *value++;
            }
        });
    });
}

}  // namespace sparsecore::cuda
