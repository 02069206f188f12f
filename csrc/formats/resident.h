// A weight in the layout of one machine: a header and up to eight sections in one 64-byte aligned buffer of bytes.
//
// Layout 0 of every kind is the stored form itself (sections: values, positions, offsets, scales) and runs everywhere. Other
// layouts belong to a kernel and an instruction set (csrc/cpu/layout.h). Resident bytes never go into a file: the
// layout may change with every release.
#pragma once

#include <cstdint>

#include "core/isa.h"
#include "core/span.h"
#include "formats/stored.h"

namespace sparsecore::formats {

constexpr int kMaxSections = 8;
constexpr uint32_t kStoredLayout = 0;

struct Sections {
    int count = 0;
    int64_t bytes[kMaxSections] = {};
};

struct Resident {
    Geometry geometry;
    uint32_t layout = kStoredLayout;
    core::Isa isa = core::Isa::Portable;
    int section_count = 0;
    int64_t section_bytes[kMaxSections] = {};
    uint8_t* sections[kMaxSections] = {};  // each 64-byte aligned
    int64_t total_bytes = 0;

    template <class T>
    T* section(int index) const {
        return reinterpret_cast<T*>(sections[index]);
    }
};

int64_t resident_bytes(const Sections& sections);
int64_t section_start(const Sections& sections, int index);  // bytes from the start of the buffer

// Writes the header into `out` (exactly resident_bytes long, 64-byte aligned, else SpanError) and zeroes the rest.
Resident create_resident(const core::Span& out, const Geometry& geometry, uint32_t layout, core::Isa isa,
                         const Sections& sections);

// Reads and checks a header in O(1); damage is a ResidentError. The sections lie inside the span; that their lengths
// are the ones that the layout needs is for the layout to check.
Resident open_resident(const core::Span& span);

// Layout 0.
Sections stored_sections(const Stored& stored);
void fill_stored(const Stored& stored, const Resident& out);
void check_stored_sections(const Resident& resident);
Stored resident_stored_view(const Resident& resident);

}  // namespace sparsecore::formats
