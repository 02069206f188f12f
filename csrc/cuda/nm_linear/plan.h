// Into how many blocks the decode kernel (nm_linear/decode.h) divides columns. A model, not measured: the weight comes at the speed
// of memory as long as every SM has a block.
#pragma once

#include <algorithm>

#include "core/span.h"
#include "cuda/nm_linear/tile_args.h"

namespace sparsecore::cuda {

constexpr std::int64_t kMostDecodeTokens = 16;  // up to so many the bytes of the weight decide, beyond the products

// For `blocks` blocks of rows: none where they reach three quarters of the SMs, else so many that every SM has a block. Each split has
// at least 8 column tiles, one for each warp, and costs 8 bytes a result.
inline int decode_splits(std::int64_t blocks, std::int64_t column_tiles, int multiprocessors) {
    constexpr std::int64_t kMost = 16, kLeastTiles = 8;
    if (blocks == 0 || blocks * 4 >= std::int64_t{multiprocessors} * 3) return 1;
    const std::int64_t wanted = (multiprocessors + blocks - 1) / blocks;
    return static_cast<int>(std::max<std::int64_t>(1, std::min({wanted, column_tiles / kLeastTiles, kMost})));
}

// The plan of a call with this workspace, fp32 [splits, tokens, rows] or null, whose columns need not be divided. Errors as nm_linear_call.
DecodePlan plan_of(const TileArgs& args, const core::Span* workspace);

// Rows of a block for so many tokens (DecodeShape::kRows).
inline std::int64_t decode_block_rows(std::int64_t tokens) { return tokens <= 4 ? 32 : tokens <= 8 ? 64 : 128; }

}  // namespace sparsecore::cuda
