#include "cpu/layout.h"

#include "core/buffer.h"
#include "core/error.h"

namespace sparsecore::cpu {

using core::Error;
using core::Isa;
using formats::Geometry;
using formats::Kind;
using formats::Resident;
using formats::Stored;

namespace {

const std::vector<Layout>& layouts(const Geometry& geometry) {
    if (geometry.dtype == core::DType::I8) return int8_layouts();
    if (geometry.dtype == core::DType::F8) return fp8_layouts();
    switch (geometry.kind) {
        case Kind::NM: return nm_layouts();
        case Kind::Bitmask: return bitmask_layouts();
        case Kind::Block: break;
    }
    return block_layouts();
}

}  // namespace

const Layout& choose_layout(const Geometry& geometry, Isa isa) {
    const Layout* best = nullptr;
    for (const Layout& layout : layouts(geometry)) {
        const bool allowed = static_cast<uint32_t>(layout.isa) <= static_cast<uint32_t>(isa);
        if (layout.kind == geometry.kind && allowed && layout.supports(geometry)) best = &layout;
    }
    if (best == nullptr) {
        throw Error("UnsupportedError", std::string("no kernel for this kind of weight: ") + kind_name(geometry.kind),
                    core::isa_name(isa));
    }
    return *best;
}

const Layout& layout_of(const Resident& resident) {
    for (const Layout& layout : layouts(resident.geometry)) {
        if (layout.kind == resident.geometry.kind && layout.id == resident.layout && layout.isa == resident.isa) return layout;
    }
    throw Error("ResidentError", "unknown resident layout " + std::to_string(resident.layout), "resident",
                "a layout of this build", "make it again from the stored form");
}

int64_t resident_size(const Stored& stored, Isa isa) {
    check_stored_shapes(stored);
    return resident_bytes(choose_layout(stored.geometry, isa).sections(stored));
}

void resident_make(const Stored& stored, Isa isa, const core::Span& out) {
    validate_stored(stored);
    for (const core::Span* part : {&stored.values, &stored.positions, &stored.offsets, &stored.scales}) {
        require_disjoint(out, "out", *part, "stored");
    }
    const Layout& layout = choose_layout(stored.geometry, isa);
    layout.fill(stored, create_resident(out, stored.geometry, layout.id, layout.isa, layout.sections(stored)));
}

Resident resident_open(const core::Span& span) {
    Resident resident = formats::open_resident(span);
    layout_of(resident).check(resident);
    return resident;
}

void resident_validate(const core::Span& span) {
    const Resident resident = resident_open(span);
    const formats::PartBytes bytes = part_bytes(resident.geometry);
    core::AlignedBuffer values(bytes.values), positions(bytes.positions), offsets(bytes.offsets),
        scales(bytes.scales);
    const Stored stored =
        stored_view(resident.geometry, values.as<void>(), positions.as<void>(), offsets.as<void>(), scales.as<void>());
    layout_of(resident).restore(resident, stored);
    validate_stored(stored);
}

void resident_to_stored(const core::Span& span, const Stored& out) {
    const Resident resident = resident_open(span);
    check_stored_shapes(out);
    layout_of(resident).restore(resident, out);
}

}  // namespace sparsecore::cpu
