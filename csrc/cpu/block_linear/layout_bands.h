// Blocks of 8 rows and more in the order of bands.h. The sections of this layout and of the narrow one are those of the
// stored form, with kBandSlack spare bytes after the values.
#pragma once

#include "cpu/block_linear/block_linear.h"
#include "cpu/layout.h"

namespace sparsecore::cpu {

// Lower blocks would leave most of a vector empty.
constexpr int64_t kBandMinimumRows = 8;

BlockWeight block_view(const formats::Resident& resident);
formats::Sections slack_sections(const formats::Stored& stored);
void check_slack_sections(const formats::Resident& resident);
void copy_tables(const formats::Stored& from, const formats::Resident& to);
void copy_tables(const formats::Resident& from, const formats::Stored& to);

Layout block_bands_layout(uint32_t id, core::Isa isa, bool (*supports)(const formats::Geometry&));
Layout block_tiles_layout(uint32_t id);  // layout_tiles.cpp

}  // namespace sparsecore::cpu
