// ptx/matrix_e4m3.h on the host; in matrix_int8.cpp, beside the product of the same fragments.
#pragma once

#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

void multiply_sparse_e4m3(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4], std::uint32_t metadata);

}  // namespace sparsecore::cuda
