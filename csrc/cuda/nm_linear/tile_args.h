// What every launch on a weight in tiles of 16 rows takes.
#pragma once

#include "cuda/common/linear_args.h"

namespace sparsecore::cuda {

constexpr int kTileRows = 16;

struct TileArgs : LinearArgs {
    const void* values;  // [row tiles, column tiles, bytes of a tile]; the order within a tile is the layout's
    std::int64_t row_tiles, column_tiles;
};

// How many blocks of a decode kernel divide the columns of the same rows; their sums meet in `partial` [splits, tokens, rows] of 32 bits.
struct DecodePlan {
    int splits = 1;
    void* partial = nullptr;  // fp32, or the exact sums of bytes
};

}  // namespace sparsecore::cuda
