#include "cpu/stored_layout.h"

#include <cstring>

namespace sparsecore::cpu {

namespace {

bool supports_any(const formats::Geometry&) { return true; }

void restore_copy(const formats::Resident& resident, const formats::Stored& out) {
    const core::Span* parts[formats::kStoredParts] = {&out.values, &out.positions, &out.offsets, &out.scales};
    for (int i = 0; i < formats::kStoredParts; ++i) {
        if (resident.section_bytes[i] > 0) {
            std::memcpy(parts[i]->data, resident.sections[i], static_cast<size_t>(resident.section_bytes[i]));
        }
    }
}

}  // namespace

Layout stored_layout(formats::Kind kind, void (*linear)(const formats::Resident&, const LinearCall&)) {
    return {kind,         formats::kStoredLayout,         core::Isa::Portable, "stored", supports_any,
            formats::stored_sections, formats::fill_stored, restore_copy,        formats::check_stored_sections,
            linear};
}

}  // namespace sparsecore::cpu
