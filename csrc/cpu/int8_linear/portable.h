#pragma once

#include "cpu/common/linear_call.h"
#include "formats/resident.h"

namespace sparsecore::cpu {

// Run layout 0 of an int8 or fp8 weight of any kind in plain C++.
void int8_linear_portable(const formats::Resident& weight, const LinearCall& call);
void fp8_linear_portable(const formats::Resident& weight, const LinearCall& call);

}  // namespace sparsecore::cpu
