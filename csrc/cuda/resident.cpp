#include "cuda/resident.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "cuda/bitmask_linear/bitmask_linear.h"
#include "cuda/bitmask_linear/layout.h"
#include "cuda/block_linear/block_linear.h"
#include "cuda/block_linear/layout.h"
#include "cuda/nm_linear/nm_linear.h"

namespace sparsecore::cuda {

namespace {

using core::Span;
using formats::Geometry;
using formats::Kind;
using formats::Resident;
using formats::Stored;

// A layout that holds float weights of its kind.
struct Layout {
    uint32_t id;
    formats::Sections (*sections)(const Geometry&);
    void (*fill)(const Stored&, const Resident&);
    void (*read)(const Resident&, const Stored&);
};

const Layout& layout_of(const Geometry& g) {
    static const Layout block{kCudaBlockLayout, block_sections, fill_block, read_block};
    static const Layout bitmask{kCudaBitmaskLayout, bitmask_sections, fill_bitmask, read_bitmask};
    return g.kind == Kind::Block ? block : bitmask;
}

uint32_t layout_for(const Stored& stored) {
    const Geometry& g = stored.geometry;
    if (g.kind == Kind::NM) return nm_layout(stored);
    formats::check_stored_shapes(stored);
    const bool fits = core::is_float(g.dtype) && adds_little(g, resident_sections(g));
    return fits ? layout_of(g).id : formats::kStoredLayout;
}

int64_t stored_bytes(Geometry g, bool codes) {
    g.codes = codes;
    const formats::PartBytes bytes = formats::part_bytes(g);
    return bytes.values + bytes.positions + bytes.offsets + bytes.scales;
}

Resident open(const Span& span) {
    const Resident resident = formats::open_resident(span);
    const Layout& layout = layout_of(resident.geometry);
    if (!core::is_float(resident.geometry.dtype) || resident.layout != layout.id) {
        throw core::Error("ResidentError", "not a weight in a CUDA layout", "resident", "the result of resident_make for cuda");
    }
    const formats::Sections sections = layout.sections(resident.geometry);
    bool same = resident.section_count == sections.count;
    for (int i = 0; same && i < sections.count; ++i) same = resident.section_bytes[i] == sections.bytes[i];
    if (!same) {
        throw core::Error("ResidentError", "section lengths do not fit the header", "resident", "an unmodified resident weight",
                          "make it again from the stored form");
    }
    return resident;
}

void require_same_weight(const Geometry& g, const Geometry& o) {
    if (o.kind != g.kind || o.rows != g.rows || o.cols != g.cols || o.p0 != g.p0 || o.p1 != g.p1 || o.dtype != g.dtype ||
        o.kept != g.kept) {
        throw core::Error("ShapeError", "the stored tensors are for another weight", "stored");
    }
}

}  // namespace

formats::Sections resident_sections(const Geometry& g) { return layout_of(g).sections(g); }

bool adds_little(const Geometry& g, const formats::Sections& sections) {
    constexpr int64_t kSlack = 4096;
    const int64_t percent = g.kind == Kind::Bitmask ? 25 : 15, stored = std::min(stored_bytes(g, false), stored_bytes(g, true));
    return formats::resident_bytes(sections) - stored <= stored / 100 * percent + kSlack;
}

int64_t resident_size(const Stored& stored) {
    const Geometry& g = stored.geometry;
    const uint32_t layout = layout_for(stored);
    if (layout == formats::kStoredLayout) return formats::resident_bytes(formats::stored_sections(stored));
    if (g.kind == Kind::NM) return nm_resident_size(g.dtype, g.rows, g.cols, g.p0, g.p1, layout);
    return formats::resident_bytes(resident_sections(g));
}

void resident_make(const Stored& stored, const Span& span) {
    const uint32_t id = layout_for(stored);
    if (id != formats::kStoredLayout && stored.geometry.kind == Kind::NM) return nm_resident_make(stored, span);
    formats::validate_stored(stored);
    for (const Span* part : {&stored.values, &stored.positions, &stored.offsets, &stored.scales}) {
        core::require_disjoint(span, "resident", *part, "stored");
    }
    if (id == formats::kStoredLayout) {
        return formats::fill_stored(stored, formats::create_resident(span, stored.geometry, id, core::Isa::Portable,
                                                                     formats::stored_sections(stored)));
    }
    const Layout& layout = layout_of(stored.geometry);
    layout.fill(stored, formats::create_resident(span, stored.geometry, layout.id, core::Isa::Portable,
                                                 layout.sections(stored.geometry)));
}

void resident_to_stored(const Span& span, const Stored& out) {
    if (out.geometry.kind == Kind::NM) return nm_resident_to_stored(span, out);
    const Resident resident = open(span);
    formats::check_stored_shapes(out);
    require_same_weight(resident.geometry, out.geometry);
    layout_of(resident.geometry).read(resident, out);
}

void resident_validate(const Span& span) {
    const Geometry g = formats::open_resident(span).geometry;
    const formats::PartBytes bytes = formats::part_bytes(g);
    std::vector<uint8_t> parts[formats::kStoredParts];
    const int64_t sizes[] = {bytes.values, bytes.positions, bytes.offsets, bytes.scales};
    for (int i = 0; i < formats::kStoredParts; ++i) parts[i].resize(static_cast<size_t>(sizes[i]));
    resident_to_stored(span, formats::stored_view(g, parts[0].data(), parts[1].data(), parts[2].data(), parts[3].data()));
}

}  // namespace sparsecore::cuda
