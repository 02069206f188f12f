#include "cuda/nm_linear/int8/layout.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "cuda/resident.h"
#include "formats/bits.h"
#include "formats/nm.h"

namespace sparsecore::cuda {

namespace {

constexpr int64_t kKeptInHalf = 32;
constexpr uint32_t kEmptyGroups = 0x44444444;  // places 0 and 1 in eight groups

int64_t column_tiles_of(int64_t cols) { return core::ceil_div(cols, int64_t{kInt8TileColumns}); }

// Where kept value `kept` of `row` lies: its byte in the values, its word and bit in the metadata.
struct Place {
    int64_t byte, word;
    int shift;
};

Place place_of(int64_t row, int64_t kept, int64_t column_tiles) {
    const int64_t half = (row / kTileRows * column_tiles + kept / (2 * kKeptInHalf)) * 2 + kept / kKeptInHalf % 2;
    const int64_t column = kept % kKeptInHalf, g = row % 8, lower = row % kTileRows / 8;
    const int64_t lane = g * 4 + column % 16 / 4, slot = (column / 16 * 2 + lower) * 4 + column % 4;
    return {(half * 32 + lane) * 16 + slot, half * 32 + g * 4 + column / 16 * 2 + lower, static_cast<int>(column % 16 * 2)};
}

}  // namespace

bool is_two_four_bytes(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m) {
    return core::is_quantised(dtype) && n == 2 && m == 4 &&
           adds_little({formats::Kind::NM, dtype, rows, cols, n, m}, int8_sections(rows, cols));
}

formats::Sections int8_sections(int64_t rows, int64_t cols) {
    const int64_t tiles = core::checked_mul(core::ceil_div(rows, int64_t{kTileRows}), column_tiles_of(cols), "resident weight");
    formats::Sections sections;
    sections.count = 3;
    sections.bytes[0] = core::checked_mul(tiles, kTileValueBytes, "resident weight");
    sections.bytes[1] = core::checked_mul(tiles, 2 * kTileMetadataWords * 4, "resident weight");
    sections.bytes[2] = core::checked_mul(rows, 4, "resident weight");
    return sections;
}

void fill_int8(const formats::Stored& stored, const formats::Resident& out) {
    const formats::Geometry& g = stored.geometry;
    const int64_t kept = formats::nm_kept_per_row(g.cols, 2, 4), column_tiles = column_tiles_of(g.cols);
    auto* metadata = out.section<uint32_t>(1);
    std::fill(metadata, metadata + out.section_bytes[1] / 4, kEmptyGroups);
    std::copy_n(stored.scales.as<const float>(), g.rows, out.section<float>(2));
    formats::NmCodeReader reader(stored.positions, g.codes, g.cols, 2, 4);
    std::vector<uint8_t> codes(static_cast<size_t>(kept + 8));
    for (int64_t row = 0; row < g.rows; ++row) {
        reader.read(row, codes.data());
        for (int64_t i = 0; i < kept; ++i) {
            const Place place = place_of(row, i, column_tiles);
            out.section<int8_t>(0)[place.byte] = stored.values.as<const int8_t>()[row * kept + i];
            uint32_t& word = metadata[place.word];
            word = (word & ~(3u << place.shift)) | static_cast<uint32_t>(codes[static_cast<size_t>(i)]) << place.shift;
        }
    }
}

void read_int8(const formats::Resident& resident, const formats::Stored& out) {
    const formats::Geometry& g = out.geometry;
    const int64_t kept = formats::nm_kept_per_row(g.cols, 2, 4), column_tiles = column_tiles_of(g.cols);
    const int64_t position_bytes = out.positions.shape[1];
    std::copy_n(resident.section<const float>(2), g.rows, out.scales.as<float>());
    for (int64_t row = 0; row < g.rows && kept > 0; ++row) {
        auto* positions = out.positions.as<uint8_t>() + row * position_bytes;
        std::fill(positions, positions + position_bytes, uint8_t{0});
        for (int64_t i = 0; i < kept; ++i) {
            const Place place = place_of(row, i, column_tiles);
            out.values.as<int8_t>()[row * kept + i] = resident.section<const int8_t>(0)[place.byte];
            const uint32_t code = resident.section<const uint32_t>(1)[place.word] >> place.shift & 3u;
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
