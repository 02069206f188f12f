// Resident layouts and the kernels that run them. A kernel folder exports a table of its layouts; layout.cpp joins
// the tables. Adding a layout touches only its folder.
#pragma once

#include <cstdint>
#include <vector>

#include "core/isa.h"
#include "formats/resident.h"

namespace sparsecore::cpu {

struct LinearCall;  // common/linear_call.h

struct Layout {
    formats::Kind kind;
    uint32_t id;  // unique within the kind (int8 and fp8 apart), never reused; 0 is the stored form
    core::Isa isa;
    const char* name;
    // Whether this layout can hold such a weight; among those that can, the last in the table is taken.
    bool (*supports)(const formats::Geometry&);
    // Section lengths for a validated weight.
    formats::Sections (*sections)(const formats::Stored&);
    // Stored form -> sections (which are zeroed) and back; both forms are checked before.
    void (*fill)(const formats::Stored&, const formats::Resident&);
    void (*restore)(const formats::Resident&, const formats::Stored&);
    // O(1): section lengths fit the header, else ResidentError. Runs at every call.
    void (*check)(const formats::Resident&);
    // out = activation(x W^T + bias); everything is checked before.
    void (*linear)(const formats::Resident&, const LinearCall&);
};

// Tables of the kernel folders, ordered from portable to best.
const std::vector<Layout>& nm_layouts();
const std::vector<Layout>& bitmask_layouts();
const std::vector<Layout>& block_layouts();
const std::vector<Layout>& int8_layouts();  // every kind, with int8 values
const std::vector<Layout>& fp8_layouts();   // every kind, with fp8 values

// The layout for a weight on `isa` (which may be no better than the machine).
const Layout& choose_layout(const formats::Geometry& geometry, core::Isa isa);
// The layout that a header names; ResidentError if this build does not have it.
const Layout& layout_of(const formats::Resident& resident);

int64_t resident_size(const formats::Stored& stored, core::Isa isa);
// Validates the stored form in full, then fills `out`.
void resident_make(const formats::Stored& stored, core::Isa isa, const core::Span& out);
// Header and section lengths: O(1).
formats::Resident resident_open(const core::Span& span);
// Everything that resident_open checks and every position in it.
void resident_validate(const core::Span& span);
void resident_to_stored(const core::Span& span, const formats::Stored& out);

}  // namespace sparsecore::cpu
