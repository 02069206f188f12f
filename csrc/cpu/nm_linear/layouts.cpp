#include <algorithm>
#include <cstring>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "cpu/common/linear_prepare.h"
#include "cpu/nm_linear/interleaved.h"
#include "cpu/nm_linear/portable.h"
#include "cpu/stored_layout.h"
#include "formats/bits.h"
#include "formats/nm.h"

namespace sparsecore::cpu {

#if defined(SPARSECORE_HAVE_AVX512)

namespace {

using formats::Geometry;
using formats::Resident;
using formats::Stored;

constexpr uint32_t kInterleaved = 1;
enum Section { kValues = 0, kCodes = 1, kSectionCount = 2 };

InterleavedShape shape_of(const Geometry& g) { return interleaved_shape(g.rows, g.cols, g.p0, g.p1); }

bool supports(const Geometry&) { return true; }

formats::Sections sections_of(const Geometry& g) {
    const InterleavedShape s = shape_of(g);
    const char* what = "resident weight";
    const int64_t slots = core::checked_mul(s.row_blocks, core::checked_mul(s.kept, kLanes, what), what);
    const int64_t row_words = core::checked_mul(s.spans, s.span_words * kLanes, what);
    const int64_t words = core::checked_mul(s.row_blocks, row_words, what);
    return {kSectionCount, {core::checked_mul(slots, itemsize(g.dtype), what), core::checked_mul(words, 2, what)}};
}

formats::Sections sections(const Stored& stored) { return sections_of(stored.geometry); }

void check(const Resident& resident) {
    formats::part_bytes(resident.geometry);  // the geometry itself: pattern, sizes, element type
    const formats::Sections expected = sections_of(resident.geometry);
    if (resident.section_count != expected.count || resident.section_bytes[kValues] != expected.bytes[kValues] ||
        resident.section_bytes[kCodes] != expected.bytes[kCodes]) {
        throw core::Error("ResidentError", "not a usable resident weight: sections do not fit the header", "resident",
                          "the interleaved layout of this weight", "make it again from the stored form");
    }
}

template <class T>
void fill_row(const Stored& in, const InterleavedShape& s, int64_t row, const int32_t* columns, const Resident& out) {
    const int64_t block = row / kLanes, lane = row % kLanes;
    const T* source = in.values.as<const T>() + row * s.kept;
    for (int64_t slot = 0; slot < s.kept; ++slot) {
        out.section<T>(kValues)[value_index(s, block, slot) + lane] = source[slot];
        const CodePlace place = code_place(s, block, slot);
        uint16_t& word = out.section<uint16_t>(kCodes)[place.index + lane];
        word = static_cast<uint16_t>(word | static_cast<unsigned>(columns[slot] % s.m) << place.shift);
    }
}

void fill(const Stored& in, const Resident& out) {
    const Geometry& g = in.geometry;
    const InterleavedShape s = shape_of(g);
    std::vector<int32_t> columns(static_cast<size_t>(s.kept));
    for (int64_t row = 0; row < g.rows; ++row) {
        formats::nm_row_columns(in.positions, g.codes, row, g.cols, g.p0, g.p1, columns.data());
        formats::for_element_type(g.dtype, "weight", [&](auto element) {
            fill_row<decltype(element)>(in, s, row, columns.data(), out);
        });
    }
}

// Writes inside the row whatever the codes say, so that a damaged table can be restored and then refused.
template <class T>
void restore_row(const Resident& in, const InterleavedShape& s, int64_t row, const Stored& out) {
    const int64_t block = row / kLanes, lane = row % kLanes, position_bytes = out.positions.shape[1];
    uint8_t* positions = out.positions.as<uint8_t>() + row * position_bytes;
    if (position_bytes > 0) std::memset(positions, 0, static_cast<size_t>(position_bytes));
    for (int64_t slot = 0; slot < s.kept; ++slot) {
        out.values.as<T>()[row * s.kept + slot] = in.section<T>(kValues)[value_index(s, block, slot) + lane];
        const CodePlace place = code_place(s, block, slot);
        const unsigned word = in.section<uint16_t>(kCodes)[place.index + lane];
        const unsigned code = word >> place.shift & ((1u << s.bits) - 1u);
        if (out.geometry.codes) {
            formats::write_bits(positions, slot * s.bits, static_cast<int>(s.bits), code);
        } else {
            formats::set_bit(positions, std::min<int64_t>(slot / s.n * s.m + code, s.cols - 1));
        }
    }
}

void restore(const Resident& in, const Stored& out) {
    const Geometry& g = in.geometry;
    const InterleavedShape s = shape_of(g);
    formats::for_element_type(g.dtype, "weight", [&](auto element) {
        for (int64_t row = 0; row < g.rows; ++row) restore_row<decltype(element)>(in, s, row, out);
    });
}

// Rows are split over threads as long as there are enough of them: each thread then streams its own part of the
// weights. Otherwise tokens are.
void linear(const Resident& resident, const LinearCall& call) {
    const InterleavedWeight w{shape_of(resident.geometry), resident.geometry.dtype, resident.section<void>(kValues),
                              resident.section<const uint16_t>(kCodes)};
    constexpr double kWorkPerThread = 1 << 17;  // multiply-adds that are worth waking a thread for
    const double work = static_cast<double>(call.tokens) * static_cast<double>(call.rows) *
                        static_cast<double>(w.shape.kept);
    const double useful = work / kWorkPerThread + 1.0;
    const int threads = useful < call.threads ? static_cast<int>(useful) : call.threads;
    const auto part = [&](int64_t token_begin, int64_t token_end, int64_t block_begin, int64_t block_end) {
        thread_local core::AlignedBuffer panel;
        const int64_t floats = interleaved_panel_floats(w.shape, token_end - token_begin);
        panel.reserve(core::checked_mul(floats, 4, "activations"));
        nm_linear_avx512(call, w, token_begin, token_end, block_begin, block_end, panel.as<float>());
    };
    if (w.shape.row_blocks >= 2 * threads || call.tokens < threads) {
        core::parallel_for(0, w.shape.row_blocks, 1, threads,
                           [&](int64_t begin, int64_t end) { part(0, call.tokens, begin, end); });
    } else {
        core::parallel_for(0, call.tokens, 1, threads,
                           [&](int64_t begin, int64_t end) { part(begin, end, 0, w.shape.row_blocks); });
    }
}

const Layout interleaved{formats::Kind::NM, kInterleaved, core::Isa::Avx512, "nm16", supports, sections,
                         fill,              restore,      check,             linear};

}  // namespace

#endif

const std::vector<Layout>& nm_layouts() {
    static const std::vector<Layout> table = {
        stored_layout(formats::Kind::NM, nm_linear_portable),
#if defined(SPARSECORE_HAVE_AVX512)
        interleaved,
#endif
    };
    return table;
}

}  // namespace sparsecore::cpu
