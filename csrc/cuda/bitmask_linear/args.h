// What a launch of the kernels for unstructured weights takes, in plain data; pointers are device memory. The tables are described in
// layout.h.
#pragma once

#include "cuda/common/linear_args.h"

namespace sparsecore::cuda {

namespace bitmask {

constexpr int kTileRows = 16, kTileColumns = 64, kTileElements = kTileRows * kTileColumns;
constexpr int kMaskWords = kTileElements / 32;
constexpr int kStartBytes = 16;  // a tile's values start at a multiple of this

}  // namespace bitmask

struct BitmaskArgs : LinearArgs {
    const void* values;          // the kept values of all tiles
    const std::uint32_t* masks;  // [tiles, 32]
    const std::uint32_t* starts;  // [tiles + 1] in units of 16 bytes
    std::int64_t row_tiles, column_tiles;
};

}  // namespace sparsecore::cuda
