#include "cuda/nm_linear/octets/layout.h"

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

int64_t column_tiles_of(int64_t cols, int64_t n, int64_t m) { return core::ceil_div(cols, kOctetKept / n * m); }

// The codes of all lanes, which two sections share out.
struct Codes {
    uint16_t* low;
    uint8_t* high;  // null: all bits are in `low`
    int bits;

    unsigned get(const OctetPlace& place) const {
        unsigned codes = low[place.lane];
        if (high != nullptr) codes |= static_cast<unsigned>(high[place.lane]) << 16;
        return codes >> place.index * bits & ((1u << bits) - 1u);
    }
    void set(const OctetPlace& place, unsigned code) const {
        const unsigned codes = code << place.index * bits;
        low[place.lane] = static_cast<uint16_t>(low[place.lane] | codes);
        if (high != nullptr) high[place.lane] = static_cast<uint8_t>(high[place.lane] | codes >> 16);
    }
};

Codes codes_of(const formats::Resident& resident, int64_t m) {
    return {resident.section<uint16_t>(1), m == 4 ? nullptr : resident.section<uint8_t>(2), octet_code_bits(static_cast<int>(m))};
}

// Calls body(kept value of the row, its place, its group) for a row.
template <class Body>
void for_places(const formats::Geometry& g, int64_t row, int64_t kept, Body&& body) {
    const int64_t column_tiles = column_tiles_of(g.cols, g.p0, g.p1);
    for (int64_t i = 0; i < kept; ++i) {
        body(i, octet_place(row, i, column_tiles, static_cast<int>(g.p0), static_cast<int>(g.p1)));
    }
}

}  // namespace

bool is_octets(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m) {
    if (core::itemsize(dtype) != 2 || !((n == 1 && (m == 4 || m == 8)) || (n == 2 && m == 8))) return false;
    return adds_little({formats::Kind::NM, dtype, rows, cols, n, m}, octet_sections(rows, cols, n, m));
}

formats::Sections octet_sections(int64_t rows, int64_t cols, int64_t n, int64_t m) {
    const int64_t tiles =
        core::checked_mul(core::ceil_div(rows, int64_t{kTileRows}), column_tiles_of(cols, n, m), "resident weight");
    formats::Sections sections;
    sections.count = m == 4 ? 2 : 3;
    sections.bytes[0] = core::checked_mul(tiles, kTileRows * kOctetKept * 2, "resident weight");
    sections.bytes[1] = core::checked_mul(tiles, 64, "resident weight");
    if (m == 8) sections.bytes[2] = core::checked_mul(tiles, 32, "resident weight");
    return sections;
}

void fill_octets(const formats::Stored& stored, const formats::Resident& out) {
    const formats::Geometry& g = stored.geometry;
    const int64_t kept = formats::nm_kept_per_row(g.cols, g.p0, g.p1);
    const Codes codes = codes_of(out, g.p1);
    formats::NmCodeReader reader(stored.positions, g.codes, g.cols, g.p0, g.p1);
    std::vector<uint8_t> row_codes(static_cast<size_t>(kept + 8));
    for (int64_t row = 0; row < g.rows; ++row) {
        reader.read(row, row_codes.data());
        const auto* from = stored.values.as<const uint16_t>() + row * kept;
        for_places(g, row, kept, [&](int64_t i, const OctetPlace& place) {
            out.section<uint16_t>(0)[place.lane * kOctetValues + place.index] = from[i];
            codes.set(place, row_codes[static_cast<size_t>(i)]);
        });
        // A last group of one column keeps one value, at code 0: the two of an octet must not have the same.
        if (g.p0 == 2 && kept % 2 == 1) codes.set(octet_place(row, kept, column_tiles_of(g.cols, 2, 8), 2, 8), 1);
    }
}

void read_octets(const formats::Resident& resident, const formats::Stored& out) {
    const formats::Geometry& g = out.geometry;
    const int64_t kept = formats::nm_kept_per_row(g.cols, g.p0, g.p1), position_bytes = out.positions.shape[1];
    const int bits = formats::nm_code_bits(g.p1);
    const Codes codes = codes_of(resident, g.p1);
    for (int64_t row = 0; row < g.rows && kept > 0; ++row) {
        auto* to = out.values.as<uint16_t>() + row * kept;
        auto* positions = out.positions.as<uint8_t>() + row * position_bytes;
        std::memset(positions, 0, static_cast<size_t>(position_bytes));
        for_places(g, row, kept, [&](int64_t i, const OctetPlace& place) {
            to[i] = resident.section<const uint16_t>(0)[place.lane * kOctetValues + place.index];
            const unsigned code = codes.get(place);
            const int64_t column = i / g.p0 * g.p1 + code;
            if (column >= g.cols) throw core::Error("ResidentError", "position out of range", "row " + std::to_string(row));
            if (g.codes) {
                formats::write_bits(positions, i * bits, bits, code);
            } else {
                formats::set_bit(positions, column);
            }
        });
    }
}

}  // namespace sparsecore::cuda
