// Into how many blocks the decode kernel (nm_linear/decode.h) divides columns. A model, not measured: the weight comes at the speed
// of memory as long as every SM has a block.
#pragma once

#include <algorithm>

#include "cuda/nm_linear/tile_args.h"

namespace sparsecore::cuda {

constexpr std::int64_t kMostDecodeTokens = 16;  // up to so many the bytes of the weight decide, beyond the products

// None where the blocks of rows reach three quarters of the SMs, else so many that every SM has a block. Each has at least 8 column
// tiles, one for each warp, and costs 8 bytes a result.
inline int decode_splits(std::int64_t tokens, std::int64_t row_tiles, std::int64_t column_tiles, int multiprocessors) {
    constexpr std::int64_t kMost = 16, kLeastTiles = 8;
    if (tokens > kMostDecodeTokens || tokens == 0) return 1;
    const std::int64_t row_tiles_of_block = tokens <= 4 ? 2 : tokens <= 8 ? 4 : 8;
    const std::int64_t blocks = std::max<std::int64_t>(1, (row_tiles + row_tiles_of_block - 1) / row_tiles_of_block);
    if (blocks * 4 >= std::int64_t{multiprocessors} * 3) return 1;
    const std::int64_t wanted = (multiprocessors + blocks - 1) / blocks;
    return static_cast<int>(std::max<std::int64_t>(1, std::min({wanted, column_tiles / kLeastTiles, kMost})));
}

}  // namespace sparsecore::cuda
