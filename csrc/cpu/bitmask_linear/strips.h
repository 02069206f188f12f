// Unstructured weights as strips (cpu/strip/strip.h). StripReader::weight is a BitmaskWeight.
#pragma once

#include "cpu/bitmask_linear/bitmask_linear.h"
#include "cpu/strip/strip.h"

namespace sparsecore::cpu {

void open_unstructured_strip(StripReader& reader);
// 16-bit values, from a bitmask one window at a time, from lists a chunk (four windows).
void expand_bitmask16_avx512(StripReader& reader, int64_t column, void* out, int64_t stride);
void expand_lists16_avx512(StripReader& reader, int64_t column, void* out, int64_t stride);

}  // namespace sparsecore::cpu
