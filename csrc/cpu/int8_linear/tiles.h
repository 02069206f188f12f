// int8 weights on AMX: tdpbssd multiplies strips by signed activations, so that sums need no correction.
#pragma once

#include "cpu/amx/strip_linear.h"
#include "cpu/int8_linear/quads.h"

namespace sparsecore::cpu {

// False, and nothing computed, for few tokens: the kernels without tiles are then faster. `scales` [rows] of the weight.
bool int8_linear_tiles(const LinearCall& call, const StripSource& source, const float* scales);

// Expander of quads (cpu/strip/strip.h) where m divides 64, so that a span is a window; StripReader::weight is a QuadWeight.
void expand_quads_avx512(StripReader& reader, int64_t column, void* out, int64_t stride);

// q + 128 becomes q; `bytes` is a multiple of 64.
void int8_remove_offset_amx(uint8_t* values, int64_t bytes);
// Panels [panel_begin, panel_end) for all of `tokens`, whose values are q.
void int8_tiles_amx(const LinearCall& call, const StripSource& source, const float* scales, const OffsetTokens& tokens,
                    int64_t panel_begin, int64_t panel_end, const StripScratch& scratch);

}  // namespace sparsecore::cpu
