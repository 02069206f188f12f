// What one launch of the general N:M linear kernel takes.
#pragma once

#include "cuda/common/linear_args.h"

namespace sparsecore::cuda {

constexpr int kChunk = 8;  // kept values that a lane handles at once
constexpr int kWarpsPerBlock = 4;

// Of a code: 1, 2, 4 or 8, the least that holds m - 1.
inline int position_bits(std::int64_t m) { return m <= 2 ? 1 : m <= 4 ? 2 : m <= 16 ? 4 : 8; }

struct NmLinearArgs : LinearArgs {
    const void* values;         // [rows, chunks * kChunk]
    const std::uint8_t* codes;  // [rows, chunks * code_bits] bytes
    std::int64_t kept, chunks;
    int n, m, code_bits;
};

}  // namespace sparsecore::cuda
