// The parts of the AVX-512 table, each filled in by its file.
#pragma once

#include "cpu/attention/decode/problem.h"

namespace sparsecore::cpu {

void decode_products_avx512(DecodeKernels& table);
void decode_values_avx512(DecodeKernels& table);

}  // namespace sparsecore::cpu
