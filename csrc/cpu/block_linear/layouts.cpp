// Layout 0 is the stored form; 3, 4 and 7 are bands (layout_bands.h), 5 and 6 the stored order again for the narrow kernels.
// 1 and 2 belonged to earlier versions.
#include <algorithm>
#include <cstring>

#include "core/checked.h"
#include "core/error.h"
#include "cpu/block_linear/bands.h"
#include "cpu/block_linear/layout_bands.h"
#include "cpu/stored_layout.h"

namespace sparsecore::cpu {

using formats::Geometry;
using formats::Resident;
using formats::Sections;
using formats::Stored;

BlockWeight block_view(const Resident& resident) {
    const Geometry& g = resident.geometry;
    BlockWeight weight;
    weight.dtype = g.dtype;
    weight.rows = g.rows;
    weight.cols = g.cols;
    weight.block_rows = g.p0;
    weight.block_cols = g.p1;
    weight.values = resident.sections[0];
    weight.columns = resident.section<int32_t>(1);
    weight.row_offsets = resident.section<int64_t>(2);
    return weight;
}

namespace {

Sections sizes(const Geometry& g) {
    const formats::PartBytes bytes = part_bytes(g);
    return {3, {core::checked_add(bytes.values, kBandSlack, "values"), bytes.positions, bytes.offsets}};
}

void copy(void* to, const void* from, int64_t bytes) {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace

Sections slack_sections(const Stored& stored) { return sizes(stored.geometry); }

void check_slack_sections(const Resident& resident) {
    const Sections expected = sizes(resident.geometry);
    if (resident.section_count != expected.count ||
        !std::equal(expected.bytes, expected.bytes + expected.count, resident.section_bytes)) {
        throw core::Error("ResidentError", "section lengths do not fit the header", "resident",
                          "an unmodified resident weight", "make it again from the stored form");
    }
}

void copy_tables(const Stored& from, const Resident& to) {
    copy(to.sections[1], from.positions.data, to.section_bytes[1]);
    copy(to.sections[2], from.offsets.data, to.section_bytes[2]);
}

void copy_tables(const Resident& from, const Stored& to) {
    copy(to.positions.data, from.sections[1], from.section_bytes[1]);
    copy(to.offsets.data, from.sections[2], from.section_bytes[2]);
}

namespace {

template <void (*kLinear)(const LinearCall&, const BlockWeight&)>
void linear(const Resident& resident, const LinearCall& call) {
    kLinear(call, block_view(resident));
}

bool supports_narrow(const Geometry& g) {
    return g.p0 < kBandMinimumRows && g.cols <= kNarrowCols && g.p1 <= kNarrowCols;
}
bool supports_bands(const Geometry& g) { return g.p0 >= kBandMinimumRows; }
// Eight rows fill the vectors of AVX2, which are as fast as half empty longer ones.
bool supports_long_bands(const Geometry& g) { return g.p0 > kBandMinimumRows; }

void fill_narrow(const Stored& stored, const Resident& out) {
    copy_tables(stored, out);
    copy(out.sections[0], stored.values.data, out.section_bytes[0] - kBandSlack);
}

void restore_narrow(const Resident& resident, const Stored& out) {
    copy_tables(resident, out);
    copy(out.values.data, resident.sections[0], resident.section_bytes[0] - kBandSlack);
}

Layout narrow_layout(uint32_t id, core::Isa isa, void (*linear)(const Resident&, const LinearCall&)) {
    return {formats::Kind::Block, id,          isa,            "narrow",             supports_narrow,
            slack_sections,       fill_narrow, restore_narrow, check_slack_sections, linear};
}

}  // namespace

const std::vector<Layout>& block_layouts() {
    static const std::vector<Layout> table = {
        stored_layout(formats::Kind::Block, linear<block_linear_stored>),
        block_bands_layout(3, core::Isa::Avx2, supports_bands),
        narrow_layout(5, core::Isa::Avx2, linear<block_linear_narrow_avx2>),
        block_bands_layout(4, core::Isa::Avx512, supports_long_bands),
        narrow_layout(6, core::Isa::Avx512, linear<block_linear_narrow_avx512>),
#if defined(SPARSECORE_HAVE_AMX)
        block_tiles_layout(7),
#endif
    };
    return table;
}

}  // namespace sparsecore::cpu
