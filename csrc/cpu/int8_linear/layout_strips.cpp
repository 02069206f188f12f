// The stored form, read by the AVX-512 kernel of strips: unstructured weights, blocks, and N:M that quads do not take.
#include "core/buffer.h"
#include "cpu/int8_linear/strips.h"
#include "cpu/int8_linear/tiles.h"
#include "cpu/int8_linear/tokens.h"
#include "cpu/stored_layout.h"

#if defined(SPARSECORE_HAVE_AVX512)

namespace sparsecore::cpu {

namespace {

constexpr uint32_t kStoredStrips = 2, kStoredTiles = 4;

StoredRows rows_of(const formats::Stored& stored) {
    const formats::Geometry& g = stored.geometry;
    StoredRows rows{};
    rows.rows = g.rows;
    rows.cols = g.cols;
    rows.n = g.p0;
    rows.m = g.p1;
    rows.values = stored.values.as<const int8_t>();
    if (g.kind == formats::Kind::Block) {
        rows.block_columns = stored.positions.as<const int32_t>();
    } else {
        rows.positions = stored.positions.as<const uint8_t>();
    }
    if (g.kind != formats::Kind::NM) rows.offsets = stored.offsets.as<const int64_t>();
    return rows;
}

StripSource source_of(const formats::Geometry& g, const StoredRows& rows) {
    if (g.kind == formats::Kind::Block) return int8_block_strips(rows);
    return g.codes ? int8_code_strips(rows) : int8_bitmask_strips(rows);
}

void linear(const formats::Resident& resident, const LinearCall& call) {
    const formats::Stored stored = resident_stored_view(resident);
    const StoredRows rows = rows_of(stored);
    const StripSource source = source_of(stored.geometry, rows);
    const double work = static_cast<double>(call.tokens) * static_cast<double>(element_count(stored.values));
    const int64_t stride = offset_token_bytes(call.cols);
    const auto quantise = [&](int64_t begin, int64_t end, uint8_t* values, float* scales) {
        int8_quantise_avx512(call, begin, end, values, scales);
    };
    const auto multiply = [&](int64_t begin, int64_t end, int64_t strip_begin, int64_t strip_end, const uint8_t* values,
                              const float* scales) {
        thread_local core::AlignedBuffer scratch;
        auto* panel = static_cast<uint8_t*>(scratch.reserve(strip_scratch_bytes(call.cols)));
        int8_strips_avx512(call, source, stored.scales.as<const float>(), {values, stride, scales, begin, end},
                           strip_begin, strip_end, panel);
    };
    for_quantised_tokens(call, {1, stride, source.strips, work}, quantise, multiply);
}

#if defined(SPARSECORE_HAVE_AMX)
void linear_tiles(const formats::Resident& resident, const LinearCall& call) {
    const formats::Stored stored = resident_stored_view(resident);
    const StoredRows rows = rows_of(stored);
    const StripSource source = source_of(stored.geometry, rows);
    if (!int8_linear_tiles(call, source, stored.scales.as<const float>())) linear(resident, call);
}
#endif

}  // namespace

#if defined(SPARSECORE_HAVE_AMX)
Layout int8_strips_tiles_layout(formats::Kind kind) {
    Layout layout = int8_strips_layout(kind);
    layout.id = kStoredTiles;
    layout.isa = core::Isa::Amx;
    layout.name = "int8 strips for tiles";
    layout.linear = linear_tiles;
    return layout;
}
#endif

Layout int8_strips_layout(formats::Kind kind) {
    Layout layout = stored_layout(kind, linear);
    layout.id = kStoredStrips;
    layout.isa = core::Isa::Avx512;
    layout.name = "int8 strips";
    return layout;
}

}  // namespace sparsecore::cpu

#endif
