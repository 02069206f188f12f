// ptx/matrix_int8.h on the host.
#pragma once

#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

void multiply_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
void multiply_signed_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
void multiply_sparse_bytes(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4],
                           std::uint32_t metadata);

}  // namespace sparsecore::cuda
