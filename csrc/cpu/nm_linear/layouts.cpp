#include <algorithm>
#include <cstring>
#include <vector>

#include "core/checked.h"
#include "core/error.h"
#include "cpu/amx/strip_linear.h"
#include "cpu/common/linear_prepare.h"
#include "cpu/nm_linear/interleave.h"
#include "cpu/nm_linear/portable.h"
#include "cpu/stored_layout.h"
#include "formats/bits.h"
#include "formats/nm.h"

namespace sparsecore::cpu {

#if defined(SPARSECORE_HAVE_AVX2)

namespace {

using formats::Geometry;
using formats::Resident;
using formats::Stored;

constexpr uint32_t kInterleaved = 1, kInterleavedPairs = 2, kAmxPairs = 3;
enum Section { kValues = 0, kCodes = 1, kSectionCount = 2 };

template <int kWidth>
InterleavedShape shape_of(const Geometry& g) {
    return interleaved_shape(g.rows, g.cols, g.p0, g.p1, kWidth);
}

template <int kWidth>
formats::Sections sections_of(const Geometry& g) {
    const InterleavedShape s = shape_of<kWidth>(g);
    const char* what = "resident weight";
    const int64_t values = core::checked_mul(core::checked_mul(s.rows, s.kept, what), itemsize(g.dtype), what);
    const int64_t row_bytes = core::checked_mul(s.words, 2 * s.width, what);
    return {kSectionCount, {values, core::checked_mul(s.rows, row_bytes, what)}};
}

template <int kWidth>
formats::Sections sections(const Stored& stored) {
    return sections_of<kWidth>(stored.geometry);
}

// Where codes take clearly more than the stored positions (many kept of m > 8, in 16 bits) the stored form stays. The bytes
// that are free let small layers have partly used code words.
template <int kWidth>
bool is_small(const Geometry& g) {
    constexpr double kMostOfStored = 1.15, kFreeBytes = 3 * 1024;
    const formats::Sections sections = sections_of<kWidth>(g);
    const formats::PartBytes stored = formats::part_bytes(g);
    return static_cast<double>(sections.bytes[kValues] + sections.bytes[kCodes]) <=
           kMostOfStored * static_cast<double>(stored.values + stored.positions) + kFreeBytes;
}

bool supports_floats(const Geometry& g) { return is_small<1>(g); }

#if defined(SPARSECORE_HAVE_AVX512BF16)
// Only whole pairs: a padded slot would multiply some input, which may be infinite, by zero.
bool supports_pairs(const Geometry& g) {
    static const bool has_bf16 = core::cpu_has("avx512bf16");
    const InterleavedShape s = shape_of<2>(g);
    const bool whole = s.kept % 2 == 0 && s.span_width / s.pitch * s.n % 2 == 0;
    return has_bf16 && g.dtype == core::DType::BF16 && whole && is_small<2>(g);
}
#endif

template <int kWidth, bool (*kSupports)(const Geometry&)>
void check(const Resident& resident) {
    formats::part_bytes(resident.geometry);  // the geometry itself: pattern, sizes, element type
    const formats::Sections expected = sections_of<kWidth>(resident.geometry);
    if (!kSupports(resident.geometry) || resident.section_count != expected.count ||
        resident.section_bytes[kValues] != expected.bytes[kValues] ||
        resident.section_bytes[kCodes] != expected.bytes[kCodes]) {
        throw core::Error("ResidentError", "not a usable resident weight: sections do not fit the header", "resident",
                          "the interleaved layout of this weight", "make it again from the stored form");
    }
}

template <int kWidth>
void fill(const Stored& in, const Resident& out) {
    interleave(in, shape_of<kWidth>(in.geometry), out.section<void>(kValues), out.section<uint16_t>(kCodes));
}

// Writes inside the row whatever the codes say, so that a damaged table can be restored and then refused.
template <class T>
void restore_row(const Resident& in, const InterleavedShape& s, int64_t row, const Stored& out) {
    const int64_t block = row / kLanes, lane = row % kLanes, position_bytes = out.positions.shape[1];
    uint8_t* positions = out.positions.as<uint8_t>() + row * position_bytes;
    if (position_bytes > 0) std::memset(positions, 0, static_cast<size_t>(position_bytes));
    for (int64_t slot = 0; slot < s.kept; ++slot) {
        out.values.as<T>()[row * s.kept + slot] = in.section<T>(kValues)[value_index(s, block, slot, lane)];
        const CodePlace place = code_place(s, block, slot, lane);
        const unsigned code = in.section<uint16_t>(kCodes)[place.index] >> place.shift & ((1u << s.bits) - 1u);
        if (out.geometry.codes) {
            formats::write_bits(positions, slot * s.bits, static_cast<int>(s.bits), code);
        } else {
            formats::set_bit(positions, std::min<int64_t>(slot / s.n * s.m + code, s.cols - 1));
        }
    }
}

template <int kWidth>
void restore(const Resident& in, const Stored& out) {
    const Geometry& g = in.geometry;
    const InterleavedShape s = shape_of<kWidth>(g);
    formats::for_element_type(g.dtype, "weight", [&](auto element) {
        for (int64_t row = 0; row < g.rows; ++row) restore_row<decltype(element)>(in, s, row, out);
    });
}

void run_kernel(const LinearCall& call, const InterleavedWeight& w, const InterleavedPart& part) {
    thread_local core::AlignedBuffer inputs, sums;
    const int64_t panel = core::checked_mul(part.panel_tokens, panel_row_bytes(w.shape), "inputs of a linear layer");
    inputs.reserve(std::max(panel, kTransposedTokens * kTransposedColumns * 4));
    const int64_t wide_sums = kTransposedBlocks * kTransposedTokens;
    sums.reserve(std::max({part.panel_tokens, kTallestTile, wide_sums}) * kLanes * 4);
    const InterleavedScratch scratch{inputs.as<void>(), sums.as<float>()};
    [[maybe_unused]] const bool has_avx512 = core::runtime_isa() != core::Isa::Avx2;
#if defined(SPARSECORE_HAVE_AVX512BF16)
    if (w.shape.width == 2) return nm_linear_avx512_bf16(call, w, part, scratch);
#endif
#if defined(SPARSECORE_HAVE_AVX512)
    if (has_avx512) return nm_linear_avx512(call, w, part, scratch);
#endif
    nm_linear_avx2(call, w, part, scratch);
}

// Rows are split over threads as long as there are enough of them: each thread then streams its own part of the
// weights. Otherwise tokens are.
template <int kWidth>
void linear(const Resident& resident, const LinearCall& call) {
    const InterleavedWeight w{shape_of<kWidth>(resident.geometry), resident.geometry.dtype,
                              resident.section<void>(kValues), resident.section<const uint16_t>(kCodes)};
    constexpr double kWorkPerThread = 1 << 19;  // multiply-adds, some microseconds: worth waking a thread for
    const double work = static_cast<double>(call.tokens) * static_cast<double>(call.rows) *
                        static_cast<double>(w.shape.kept);
    const double useful = work / kWorkPerThread + 1.0;
    const int threads = useful < call.threads ? static_cast<int>(useful) : call.threads;
    if (w.shape.row_blocks >= 2 * threads || call.tokens < threads) {
        core::parallel_for(0, w.shape.row_blocks, 1, threads, [&](int64_t begin, int64_t end) {
            run_kernel(call, w, {0, call.tokens, begin, end, panel_tokens(w.shape, call.tokens, threads)});
        });
    } else {
        core::parallel_for(0, call.tokens, 1, threads, [&](int64_t begin, int64_t end) {
            run_kernel(call, w, {begin, end, 0, w.shape.row_blocks, panel_tokens(w.shape, end - begin, threads)});
        });
    }
}

#if defined(SPARSECORE_HAVE_AMX)
// Windows of 32 columns that are whole spans.
bool supports_amx(const Geometry& g) {
    return supports_pairs(g) && 32 % g.p1 == 0 && g.cols <= INT32_MAX - 32;
}

void linear_amx(const Resident& resident, const LinearCall& call) {
    const InterleavedWeight w{shape_of<2>(resident.geometry), resident.geometry.dtype, resident.section<void>(kValues),
                              resident.section<const uint16_t>(kCodes)};
    StripSource source{&w, w.shape.row_blocks};
    source.expand = expand_pairs_avx512;
    if (!strip_linear_amx(call, source)) linear<2>(resident, call);
}
#endif

template <int kWidth, bool (*kSupports)(const Geometry&)>
Layout interleaved_layout(uint32_t id, core::Isa isa, const char* name) {
    return {formats::Kind::NM, id,
            isa,               name,
            kSupports,         sections<kWidth>,
            fill<kWidth>,      restore<kWidth>,
            check<kWidth, kSupports>, linear<kWidth>};
}

}  // namespace

#endif

const std::vector<Layout>& nm_layouts() {
    static const std::vector<Layout> table = {
        stored_layout(formats::Kind::NM, nm_linear_portable),
#if defined(SPARSECORE_HAVE_AVX2)
        interleaved_layout<1, supports_floats>(kInterleaved, core::Isa::Avx2, "interleaved"),
#if defined(SPARSECORE_HAVE_AVX512BF16)
        interleaved_layout<2, supports_pairs>(kInterleavedPairs, core::Isa::Avx512, "interleaved pairs"),
#if defined(SPARSECORE_HAVE_AMX)
        {formats::Kind::NM, kAmxPairs, core::Isa::Amx, "interleaved pairs for tiles", supports_amx, sections<2>, fill<2>,
         restore<2>, check<2, supports_amx>, linear_amx},
#endif
#endif
#endif
    };
    return table;
}

}  // namespace sparsecore::cpu
