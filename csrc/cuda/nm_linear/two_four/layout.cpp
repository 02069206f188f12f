#include "cuda/nm_linear/two_four/layout.h"

#include <cstring>
#include <string>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "cuda/resident.h"
#include "formats/bits.h"
#include "formats/nm.h"

namespace sparsecore::cuda {

namespace {

constexpr int64_t kKeptInHalf = 16;
constexpr uint32_t kEmptyGroups = 0x4444;  // places 0 and 1 in four groups

// Where kept value `kept` of `row` lies: its element in the values, its word and bit in the metadata.
struct Place {
    int64_t element, word;
    int shift;
};

Place place_of(int64_t row, int64_t kept, int64_t column_tiles) {
    const int64_t tile = row / kTileRows * column_tiles + kept / (2 * kKeptInHalf);
    const int64_t half = kept / kKeptInHalf % 2, column = kept % kKeptInHalf;
    const int64_t g = row % 8, lower = row % kTileRows / 8;
    const int64_t lane = g * 4 + column % 8 / 2;
    const int64_t slot = (column / 8 * 2 + lower) * 2 + column % 2;
    const int64_t meta_lane = g * 4 + half * 2 + column / 8;
    return {((tile * 2 + half) * 32 + lane) * 8 + slot, tile * kTileMetadataWords + meta_lane,
            static_cast<int>(lower * 16 + column % 8 * 2)};
}

int64_t column_tiles_of(int64_t cols) { return core::ceil_div(cols, kTileColumns); }

}  // namespace

bool is_two_four(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m) {
    return n == 2 && m == 4 && core::itemsize(dtype) == 2 &&
           adds_little({formats::Kind::NM, dtype, rows, cols, n, m}, two_four_sections(rows, cols));
}

formats::Sections two_four_sections(int64_t rows, int64_t cols) {
    const int64_t tiles =
        core::checked_mul(core::ceil_div(rows, int64_t{kTileRows}), column_tiles_of(cols), "resident weight");
    formats::Sections sections;
    sections.count = 2;
    sections.bytes[0] = core::checked_mul(tiles, kTileValueBytes, "resident weight");
    sections.bytes[1] = core::checked_mul(tiles, kTileMetadataWords * 4, "resident weight");
    return sections;
}

void fill_two_four(const formats::Stored& stored, const formats::Resident& out) {
    const formats::Geometry& g = stored.geometry;
    const int64_t kept = formats::nm_kept_per_row(g.cols, 2, 4), column_tiles = column_tiles_of(g.cols);
    auto* values = out.section<uint16_t>(0);
    auto* metadata = out.section<uint32_t>(1);
    for (int64_t word = 0; word * 4 < out.section_bytes[1]; ++word) metadata[word] = kEmptyGroups | kEmptyGroups << 16;
    formats::NmCodeReader reader(stored.positions, g.codes, g.cols, 2, 4);
    std::vector<uint8_t> codes(static_cast<size_t>(kept + 8));
    for (int64_t row = 0; row < g.rows; ++row) {
        reader.read(row, codes.data());
        const auto* from = stored.values.as<const uint16_t>() + row * kept;
        for (int64_t i = 0; i < kept; ++i) {
            const Place place = place_of(row, i, column_tiles);
            values[place.element] = from[i];
            uint32_t& word = metadata[place.word];
            word = (word & ~(3u << place.shift)) | static_cast<uint32_t>(codes[static_cast<size_t>(i)]) << place.shift;
        }
    }
}

void read_two_four(const formats::Resident& resident, const formats::Stored& out) {
    const formats::Geometry& g = out.geometry;
    const int64_t kept = formats::nm_kept_per_row(g.cols, 2, 4), column_tiles = column_tiles_of(g.cols);
    const int64_t position_bytes = out.positions.shape[1];
    const auto* values = resident.section<const uint16_t>(0);
    const auto* metadata = resident.section<const uint32_t>(1);
    for (int64_t row = 0; row < g.rows && kept > 0; ++row) {
        auto* to = out.values.as<uint16_t>() + row * kept;
        auto* positions = out.positions.as<uint8_t>() + row * position_bytes;
        std::memset(positions, 0, static_cast<size_t>(position_bytes));
        for (int64_t i = 0; i < kept; ++i) {
            const Place place = place_of(row, i, column_tiles);
            to[i] = values[place.element];
            const uint32_t code = metadata[place.word] >> place.shift & 3u;
            const int64_t column = i / 2 * 4 + code;
            if (column >= g.cols) throw core::Error("ResidentError", "position out of range", "row " + std::to_string(row));
            if (g.codes) {
                formats::write_bits(positions, i * 2, 2, code);
            } else {
                formats::set_bit(positions, column);
            }
        }
    }
}

}  // namespace sparsecore::cuda
