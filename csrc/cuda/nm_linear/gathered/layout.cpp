#include "cuda/nm_linear/gathered/layout.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "cuda/nm_linear/two_four/layout.h"
#include "formats/bits.h"
#include "formats/nm.h"

namespace sparsecore::cuda {

namespace {

constexpr int kChosen = 4;

int64_t groups_of(int64_t cols, int64_t m) { return core::ceil_div(cols, m); }
int64_t tiles_of(int64_t cols, int64_t m) { return core::ceil_div(groups_of(cols, m), int64_t{kTileGroups}); }

// Reads the positions of a stored weight row by row, one byte each.
struct Rows {
    const formats::Geometry& g;
    int64_t kept;
    formats::NmCodeReader reader;
    std::vector<uint8_t> codes;

    explicit Rows(const formats::Stored& stored)
        : g(stored.geometry),
          kept(formats::nm_kept_per_row(g.cols, g.p0, g.p1)),
          reader(stored.positions, g.codes, g.cols, g.p0, g.p1),
          codes(static_cast<size_t>(kept + 8)) {}
    const uint8_t* read(int64_t row) {
        reader.read(row, codes.data());
        return codes.data();
    }
};

// Masks of the columns that a block of rows uses, one a group.
std::vector<uint32_t> used_columns(Rows& rows, int64_t first_row, int64_t block_rows) {
    std::vector<uint32_t> used(static_cast<size_t>(groups_of(rows.g.cols, rows.g.p1)));
    for (int64_t row = first_row; row < std::min(first_row + block_rows, rows.g.rows); ++row) {
        const uint8_t* codes = rows.read(row);
        for (int64_t i = 0; i < rows.kept; ++i) used[static_cast<size_t>(i / 2)] |= 1u << codes[i];
    }
    return used;
}

// Four ascending places that hold the used ones.
uint16_t choose(uint32_t used) {
    for (uint32_t place = 0; __builtin_popcount(used) < kChosen; ++place) used |= 1u << place;
    uint16_t chosen = 0;
    for (int i = 0; i < kChosen; ++i, used &= used - 1) {
        chosen = static_cast<uint16_t>(chosen | __builtin_ctz(used) << (4 * i));
    }
    return chosen;
}

int place_of(uint16_t chosen, int column) {
    int place = 0;
    while ((chosen >> (4 * place) & 15) != column) ++place;
    return place;
}

bool fits(const formats::Stored& stored, int64_t block_rows) {
    Rows rows(stored);
    for (int64_t first = 0; first < rows.g.rows; first += block_rows) {
        for (uint32_t used : used_columns(rows, first, block_rows)) {
            if (__builtin_popcount(used) > kChosen) return false;
        }
    }
    return true;
}

// The 2:4 weight of the chosen columns with codes in `codes`, one byte a row more than they need.
formats::Stored narrow(const formats::Geometry& g, const core::Span& values, std::vector<uint8_t>& codes) {
    formats::Stored stored;
    const int64_t kept = formats::nm_kept_per_row(g.cols, g.p0, g.p1), bytes = formats::nm_code_bytes(kept, 4);
    stored.geometry = {formats::Kind::NM, g.dtype, g.rows, groups_of(g.cols, g.p1) * kChosen, 2, 4, g.rows * kept, true};
    stored.values = values;
    codes.assign(static_cast<size_t>(g.rows * bytes), 0);
    stored.positions = core::make_span(codes.data(), core::DType::U8, {g.rows, bytes});
    return stored;
}

}  // namespace

int gathered_block_rows(const formats::Stored& stored) {
    const formats::Geometry& g = stored.geometry;
    const bool has_kernel = core::itemsize(g.dtype) == 2 && g.p0 == 2 && (g.p1 == 8 || g.p1 == 16);
    // A last group of one column keeps one value, which no group of the 2:4 weight does.
    if (!has_kernel || g.cols % g.p1 == 1 || g.rows < 64) return 0;
    constexpr int64_t kSlack = 4096;
    for (int block_rows : {128, 64}) {
        const int64_t kept = g.rows * formats::nm_kept_per_row(g.cols, g.p0, g.p1), bytes = kept * 2 + kept * formats::nm_code_bits(g.p1) / 8;
        const bool small = formats::resident_bytes(gathered_sections(g.rows, g.cols, g.p1, block_rows)) <= bytes + bytes * 15 / 100 + kSlack;
        if (small && fits(stored, block_rows)) return block_rows;
    }
    return 0;
}

formats::Sections gathered_sections(int64_t rows, int64_t cols, int64_t m, int block_rows) {
    formats::Sections sections = two_four_sections(rows, core::checked_mul(groups_of(cols, m), kChosen, "weight"));
    const int64_t row_blocks = core::ceil_div(rows, int64_t{block_rows});
    sections.count = 3;
    sections.bytes[2] = core::checked_mul(row_blocks, tiles_of(cols, m) * kTileGroups * 2, "resident weight");
    return sections;
}

void fill_gathered(const formats::Stored& stored, int block_rows, const formats::Resident& out) {
    const formats::Geometry& g = stored.geometry;
    const int64_t groups = groups_of(g.cols, g.p1), padded = tiles_of(g.cols, g.p1) * kTileGroups;
    auto* chosen = out.section<uint16_t>(2);
    std::fill(chosen, chosen + core::ceil_div(g.rows, int64_t{block_rows}) * padded, choose(0));
    Rows rows(stored);
    std::vector<uint8_t> codes;
    const formats::Stored narrowed = narrow(g, stored.values, codes);
    for (int64_t first = 0; first < g.rows; first += block_rows, chosen += padded) {
        const std::vector<uint32_t> used = used_columns(rows, first, block_rows);
        std::transform(used.begin(), used.end(), chosen, choose);
        for (int64_t row = first; row < std::min(first + block_rows, g.rows) && groups > 0; ++row) {
            const uint8_t* from = rows.read(row);
            uint8_t* to = codes.data() + row * narrowed.positions.shape[1];
            for (int64_t i = 0; i < rows.kept; ++i) {
                formats::write_bits(to, i * 2, 2, static_cast<unsigned>(place_of(chosen[i / 2], from[i])));
            }
        }
    }
    fill_two_four(narrowed, out);
}

void read_gathered(const formats::Resident& resident, int block_rows, const formats::Stored& out) {
    const formats::Geometry& g = out.geometry;
    const int64_t kept = formats::nm_kept_per_row(g.cols, g.p0, g.p1), position_bytes = out.positions.shape[1];
    const int64_t padded = tiles_of(g.cols, g.p1) * kTileGroups;
    const int bits = formats::nm_code_bits(g.p1);
    std::vector<uint8_t> codes;
    const formats::Stored narrowed = narrow(g, out.values, codes);
    read_two_four(resident, narrowed);
    for (int64_t row = 0; row < g.rows; ++row) {
        const uint16_t* chosen = resident.section<const uint16_t>(2) + row / block_rows * padded;
        const uint8_t* from = codes.data() + row * narrowed.positions.shape[1];
        auto* positions = out.positions.as<uint8_t>() + row * position_bytes;
        std::fill(positions, positions + position_bytes, uint8_t{0});
        for (int64_t i = 0; i < kept; ++i) {
            const unsigned code = chosen[i / 2] >> (4 * formats::read_bits(from, i * 2, 2)) & 15u;
            const int64_t column = i / 2 * g.p1 + code;
            if (code >= g.p1 || column >= g.cols) throw core::Error("ResidentError", "position out of range", "row " + std::to_string(row));
            if (g.codes) {
                formats::write_bits(positions, i * bits, bits, code);
            } else {
                formats::set_bit(positions, column);
            }
        }
    }
}

}  // namespace sparsecore::cuda
