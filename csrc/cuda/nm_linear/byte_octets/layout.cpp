#include "cuda/nm_linear/byte_octets/layout.h"

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

constexpr int kHighCodes = 2;  // their section, of 1:8 and 2:8

int64_t column_tiles_of(int64_t cols, int64_t n, int64_t m) {
    return core::ceil_div(cols, int64_t{byte_octet_columns(static_cast<int>(n), static_cast<int>(m))});
}

int scales_section(int64_t m) { return m == 4 ? kHighCodes : kHighCodes + 1; }

// The values and codes of a weight, by row and number of the kept value.
class Octets {
public:
    explicit Octets(const formats::Resident& resident)
        : values_(resident.section<int8_t>(0)),
          codes_(resident.section<uint32_t>(1)),
          high_(resident.geometry.p1 == 8 ? resident.section<uint16_t>(kHighCodes) : nullptr),
          n_(static_cast<int>(resident.geometry.p0)),
          m_(static_cast<int>(resident.geometry.p1)),
          column_tiles_(column_tiles_of(resident.geometry.cols, n_, m_)) {}

    int8_t& value(int64_t row, int64_t slot) const {
        const OctetPlace place = byte_octet_place(row, slot, column_tiles_, n_, m_);
        return values_[place.lane * kByteOctetValues + place.index];
    }
    unsigned code(int64_t row, int64_t slot) const {
        const OctetPlace place = byte_octet_place(row, slot, column_tiles_, n_, m_), third = third_bit_place(row, slot, column_tiles_, n_, m_);
        const unsigned two = codes_[place.lane] >> code_bit(place.index) & 3u;
        return high_ == nullptr ? two : join_code(two, high_[third.lane] >> third_code_bit(third.index) & 1u, n_, m_);
    }
    // Where it was 0.
    void set_code(int64_t row, int64_t slot, unsigned code) const {
        const OctetPlace place = byte_octet_place(row, slot, column_tiles_, n_, m_), third = third_bit_place(row, slot, column_tiles_, n_, m_);
        codes_[place.lane] |= two_bits_of(code, n_, m_) << code_bit(place.index);
        if (high_ != nullptr) high_[third.lane] = static_cast<uint16_t>(high_[third.lane] | third_bit_of(code, n_, m_) << third_code_bit(third.index));
    }

private:
    int8_t* values_;
    uint32_t* codes_;
    uint16_t* high_;  // null: codes have two bits
    int n_, m_;
    int64_t column_tiles_;
};

}  // namespace

bool is_byte_octets(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m) {
    const bool has_kernel = (n == 1 && (m == 4 || m == 8)) || (n == 2 && m == 8);
    return core::is_quantised(dtype) && has_kernel &&
           adds_little({formats::Kind::NM, dtype, rows, cols, n, m}, byte_octet_sections(rows, cols, n, m));
}

formats::Sections byte_octet_sections(int64_t rows, int64_t cols, int64_t n, int64_t m) {
    const int64_t tiles =
        core::checked_mul(core::ceil_div(rows, int64_t{kTileRows}), column_tiles_of(cols, n, m), "resident weight");
    formats::Sections sections;
    sections.count = scales_section(m) + 1;
    sections.bytes[0] = core::checked_mul(tiles, 32 * kByteOctetValues, "resident weight");
    sections.bytes[1] = core::checked_mul(tiles, 32 * 4, "resident weight");
    if (m == 8) sections.bytes[kHighCodes] = core::checked_mul(tiles, 32 * 2, "resident weight");
    sections.bytes[scales_section(m)] = core::checked_mul(rows, 4, "resident weight");
    return sections;
}

void fill_byte_octets(const formats::Stored& stored, const formats::Resident& out) {
    const formats::Geometry& g = stored.geometry;
    const int64_t kept = formats::nm_kept_per_row(g.cols, g.p0, g.p1);
    const Octets octets(out);
    std::copy_n(stored.scales.as<const float>(), g.rows, out.section<float>(scales_section(g.p1)));
    formats::NmCodeReader reader(stored.positions, g.codes, g.cols, g.p0, g.p1);
    std::vector<uint8_t> row_codes(static_cast<size_t>(kept + 8));
    for (int64_t row = 0; row < g.rows; ++row) {
        reader.read(row, row_codes.data());
        for (int64_t i = 0; i < kept; ++i) {
            octets.value(row, i) = stored.values.as<const int8_t>()[row * kept + i];
            octets.set_code(row, i, row_codes[static_cast<size_t>(i)]);
        }
        // A last group of one column keeps one value, at code 0: the two of an octet must not have the same.
        if (g.p0 == 2 && kept % 2 == 1) octets.set_code(row, kept, 1);
    }
}

void read_byte_octets(const formats::Resident& resident, const formats::Stored& out) {
    const formats::Geometry& g = out.geometry;
    const int64_t kept = formats::nm_kept_per_row(g.cols, g.p0, g.p1), position_bytes = out.positions.shape[1];
    const int bits = formats::nm_code_bits(g.p1);
    const Octets octets(resident);
    std::copy_n(resident.section<const float>(scales_section(g.p1)), g.rows, out.scales.as<float>());
    for (int64_t row = 0; row < g.rows && kept > 0; ++row) {
        auto* positions = out.positions.as<uint8_t>() + row * position_bytes;
        std::fill(positions, positions + position_bytes, uint8_t{0});
        for (int64_t i = 0; i < kept; ++i) {
            out.values.as<int8_t>()[row * kept + i] = octets.value(row, i);
            const unsigned code = octets.code(row, i);
            const int64_t column = i / g.p0 * g.p1 + code;
            if (column >= g.cols) throw core::Error("ResidentError", "position out of range", "row " + std::to_string(row));
            if (g.codes) {
                formats::write_bits(positions, i * bits, bits, code);
            } else {
                formats::set_bit(positions, column);
            }
        }
    }
}

}  // namespace sparsecore::cuda
