#pragma once

#include "cpu/common/linear_call.h"
#include "formats/resident.h"

namespace sparsecore::cpu {

// Runs layout 0 of any N:M weight in plain C++.
void nm_linear_portable(const formats::Resident& weight, const LinearCall& call);

}  // namespace sparsecore::cpu
