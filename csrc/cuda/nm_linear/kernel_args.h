// What one launch of the general N:M linear kernel takes.
#pragma once

#include "cuda/common/linear_args.h"

namespace sparsecore::cuda {

constexpr int kChunk = 8;  // kept values that a lane handles at once
constexpr int kWarpsPerBlock = 4;

struct NmLinearArgs : LinearArgs {
    const void* values;         // [rows, chunks * kChunk]
    const std::uint8_t* codes;  // [rows, chunks * code_bits] bytes
    std::int64_t kept, chunks;
    int n, m, code_bits;
};

}  // namespace sparsecore::cuda
