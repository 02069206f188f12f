#include <algorithm>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "cpu/int8_linear/quads.h"
#include "cpu/int8_linear/tiles.h"
#include "cpu/int8_linear/tokens.h"
#include "formats/bits.h"
#include "formats/nm.h"

#if defined(SPARSECORE_HAVE_AVX512)

namespace sparsecore::cpu {

namespace {

using formats::Geometry;
using formats::Resident;
using formats::Sections;
using formats::Stored;

enum Section { kValues, kCodes, kScales, kCorrections, kSections };

QuadShape shape_of(const Geometry& g) { return quad_shape(g.rows, g.cols, g.p0, g.p1); }

Sections sizes(const Geometry& g) {
    const QuadShape s = shape_of(g);
    const char* what = "resident weight";
    const int64_t rows = core::checked_mul(s.row_blocks, kQuadRows, what);
    const int64_t words = core::checked_mul(s.row_blocks, s.spans * s.span_words, what);
    return {kSections,
            {core::checked_mul(rows, s.kept, what), core::checked_mul(words, kQuadBytes, what),
             core::checked_mul(rows, 4, what), core::checked_mul(rows, 4, what)}};
}

// Whole steps in every span, codes that fill bytes, and hardly more bytes than the stored form.
bool supports(const Geometry& g) {
    if (g.p1 > kQuadReach) return false;
    const QuadShape s = shape_of(g);
    if (s.kept % kQuadSlots != 0 || s.span_slots % kQuadSlots != 0 || 8 % s.bits != 0) return false;
    const formats::PartBytes stored = formats::part_bytes(g);
    return resident_bytes(sizes(g)) <= (stored.values + stored.positions + stored.scales) / 20 * 23 + 4096;
}

Sections sections(const Stored& stored) { return sizes(stored.geometry); }

void check(const Resident& resident) {
    formats::part_bytes(resident.geometry);  // the geometry itself: pattern, sizes
    const Sections expected = sizes(resident.geometry);
    if (!supports(resident.geometry) || resident.section_count != expected.count ||
        !std::equal(expected.bytes, expected.bytes + kSections, resident.section_bytes)) {
        throw core::Error("ResidentError", "not a usable resident weight: sections do not fit the header", "resident",
                          "the layout in steps of four values", "make it again from the stored form");
    }
}

void fill(const Stored& in, const Resident& out) {
    const Geometry& g = in.geometry;
    const QuadShape s = shape_of(g);
    std::vector<int32_t> columns(static_cast<size_t>(s.kept));
    std::fill_n(out.section<float>(kScales), s.row_blocks * kQuadRows, 1.0f);
    for (int64_t row = 0; row < g.rows; ++row) {
        formats::nm_row_columns(in.positions, g.codes, row, g.cols, g.p0, g.p1, columns.data());
        const int8_t* source = in.values.as<const int8_t>() + row * s.kept;
        int32_t sum = 0;
        for (int64_t slot = 0; slot < s.kept; ++slot) {
            sum += source[slot];
            out.section<int8_t>(kValues)[quad_value(s, row, slot)] = source[slot];
            const QuadCode place = quad_code(s, row, slot);
            uint8_t& byte = out.section<uint8_t>(kCodes)[place.index];
            byte = static_cast<uint8_t>(byte | columns[static_cast<size_t>(slot)] % s.m << place.shift);
        }
        out.section<float>(kScales)[row] = in.scales.as<const float>()[row];
        out.section<int32_t>(kCorrections)[row] = -kInputOffset * sum;
    }
}

// Writes inside the row whatever the codes say, so that a damaged table can be restored and then refused.
void restore(const Resident& in, const Stored& out) {
    const Geometry& g = in.geometry;
    const QuadShape s = shape_of(g);
    const int64_t position_bytes = out.positions.shape[1];
    std::fill_n(out.positions.as<uint8_t>(), g.rows * position_bytes, uint8_t{0});
    for (int64_t row = 0; row < g.rows; ++row) {
        uint8_t* positions = out.positions.as<uint8_t>() + row * position_bytes;
        int32_t sum = 0;
        for (int64_t slot = 0; slot < s.kept; ++slot) {
            const int8_t value = in.section<int8_t>(kValues)[quad_value(s, row, slot)];
            sum += value;
            out.values.as<int8_t>()[row * s.kept + slot] = value;
            const QuadCode place = quad_code(s, row, slot);
            const unsigned code = in.section<uint8_t>(kCodes)[place.index] >> place.shift & ((1u << s.bits) - 1u);
            if (g.codes) {
                formats::write_bits(positions, slot * s.bits, static_cast<int>(s.bits), code);
            } else {
                formats::set_bit(positions, std::min<int64_t>(slot / s.n * s.m + code, s.cols - 1));
            }
        }
        out.scales.as<float>()[row] = in.section<float>(kScales)[row];
        if (in.section<int32_t>(kCorrections)[row] != -kInputOffset * sum) {
            throw core::Error("IndexTableError", "the sum of a row's values is wrong", "row " + std::to_string(row),
                              "an unmodified resident weight", "make it again from the stored form");
        }
    }
}

QuadWeight view(const Resident& resident) {
    return {shape_of(resident.geometry), resident.section<const int8_t>(kValues), resident.section<const uint8_t>(kCodes),
            resident.section<const float>(kScales), resident.section<const int32_t>(kCorrections)};
}

void linear(const Resident& resident, const LinearCall& call) {
    const QuadWeight w = view(resident);
    const double work = static_cast<double>(call.tokens) * static_cast<double>(call.rows) *
                        static_cast<double>(w.shape.kept);
    const int64_t stride = offset_token_bytes(call.cols);
    const auto quantise = [&](int64_t begin, int64_t end, uint8_t* values, float* scales) {
        int8_quantise_avx512(call, begin, end, values, scales);
    };
    const auto multiply = [&](int64_t begin, int64_t end, int64_t block_begin, int64_t block_end, const uint8_t* values,
                              const float* scales) {
        int8_quads_avx512(call, w, {values, stride, scales, begin, end}, block_begin, block_end);
    };
    for_quantised_tokens(call, {1, stride, w.shape.row_blocks, work}, quantise, multiply);
}

#if defined(SPARSECORE_HAVE_AMX)
void linear_tiles(const Resident& resident, const LinearCall& call) {
    const QuadWeight w = view(resident);
    StripSource source{&w, w.shape.row_blocks};
    source.expand = expand_quads_avx512;
    const bool whole_windows = kQuadReach % w.shape.m == 0;
    if (!whole_windows || !int8_linear_tiles(call, source, w.scales)) linear(resident, call);
}
#endif

}  // namespace

#if defined(SPARSECORE_HAVE_AMX)
Layout int8_quads_tiles_layout() {
    Layout layout = int8_quads_layout();
    layout.id = 3;
    layout.isa = core::Isa::Amx;
    layout.name = "int8 quads for tiles";
    layout.linear = linear_tiles;
    return layout;
}
#endif

Layout int8_quads_layout() {
    return {formats::Kind::NM, 1,     core::Isa::Avx512, "int8 quads", supports, sections, fill,
            restore,           check, linear};
}

}  // namespace sparsecore::cpu

#endif
