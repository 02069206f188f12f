// From the stored form of an N:M weight into the interleaved layouts, at the speed of loading a file.
#pragma once

#include "cpu/nm_linear/interleaved.h"
#include "formats/stored.h"

namespace sparsecore::cpu {

// Fills `values` and `codes`, laid out as interleaved.h says, from a validated weight of that shape.
void interleave(const formats::Stored& weight, const InterleavedShape& shape, void* values, uint16_t* codes);

}  // namespace sparsecore::cpu
