// When the Hopper kernel on gathered weights (sm90_gemm.h) runs, and how many tokens it transposes at a time. By counts; not measured.
#pragma once

#include <algorithm>

#include "cuda/nm_linear/gathered/args.h"

namespace sparsecore::cuda {

constexpr std::int64_t kSm90GatheredTokens = 256;                                 // of a block
constexpr std::int64_t kSm90MostGatheredTokens = 65535 * kSm90GatheredTokens;     // the second dimension of a CUDA grid

// How many tokens of x a call holds transposed; 0: the kernels of sm_80 are faster, or no part fits the memory that a call may take.
//
// A block of 128 x 256 takes some 1400 clocks for 64 chosen columns, those of sm_80 1900 for as many results, and to transpose an element
// of x costs a GPU what 1800 rows gain by that. Blocks of sm_80 are half as large: where they fit the multiprocessors at once, two of them
// would have been done side by side. Up to 64 tokens most of a block of 256 is nothing.
inline std::int64_t gathered_column_tokens(std::int64_t tokens, std::int64_t rows, std::int64_t cols, int block_rows, int multiprocessors) {
    constexpr std::int64_t kLeastTokens = 65, kLeastRows = 2048, kScratchBytes = 32 << 20, kBlock = kSm90GatheredTokens;
    if (block_rows != 128 || tokens < kLeastTokens || rows < kLeastRows || cols == 0) return 0;
    const std::int64_t most = kScratchBytes / 2 / cols / kBlock * kBlock;
    if (most == 0) return 0;
    const std::int64_t parts = (tokens + most - 1) / most, blocks = ((tokens + parts - 1) / parts + kBlock - 1) / kBlock;
    return 2 * blocks * ((rows + 127) / 128) > multiprocessors ? blocks * kBlock : 0;
}

}  // namespace sparsecore::cuda
