// The bands layout as windows of 16 outputs (cpu/strip/strip.h), for AMX. Blocks have kBandMinimumRows rows or more, and
// whole groups of 4 bytes as columns.
#pragma once

#include "cpu/block_linear/bands.h"
#include "cpu/strip/strip.h"

namespace sparsecore::cpu {

constexpr int64_t kMostBlockRows = 6;  // that meet two strips

// StripReader::weight is a BlockWeight.
void open_block_strip(StripReader& reader);
void expand_block_pairs_avx512(StripReader& reader, int64_t column, void* out, int64_t stride);  // 16-bit values

// Windows of `width` columns in which the rows of `strips` strips from `strip` on keep a block.
int64_t block_windows(const BlockWeight& weight, int64_t strip, int64_t strips, int64_t width, int32_t* columns);

}  // namespace sparsecore::cpu
