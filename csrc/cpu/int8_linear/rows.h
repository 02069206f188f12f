// The kept values of one row of a stored int8 weight of any kind, with their columns in ascending order; of an fp8 one their
// bits.
#pragma once

#include "formats/stored.h"

namespace sparsecore::cpu {

// Writes at most `cols` entries and returns their number; a kept block gives its zeros as well.
int64_t int8_row_entries(const formats::Stored& weight, int64_t row, int32_t* columns, int8_t* values);

}  // namespace sparsecore::cpu
