// How a lane loads its part of a tile of 2:4 weights of bytes, 16 rows and 128 columns, as layout.h gives it to it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/common/words.h"
#include "cuda/ptx/thread.h"

namespace sparsecore::cuda {

struct ByteTile {
    Words4 halves[2];
    std::uint32_t metadata[2];
};

struct ByteWeightTiles {
    using Tile = ByteTile;

    // Of the calling lane, in the first tile of a row tile.
    struct RowTile {
        const Words4* values;
        const std::uint32_t* metadata;
    };

    template <class Args>
    static SC_DEVICE RowTile row_tile(const Args& a, std::int64_t index) {
        const std::int64_t first = index * a.column_tiles * 2 * kWarpSize + thread_x() % kWarpSize;
        return {static_cast<const Words4*>(a.values) + first, a.metadata + first};
    }

    static SC_DEVICE Tile load(const RowTile& row, std::uint32_t tile) {
        const std::size_t first = std::size_t{tile} * 2 * kWarpSize, second = first + kWarpSize;
        return {{row.values[first], row.values[second]}, {row.metadata[first], row.metadata[second]}};
    }
};

}  // namespace sparsecore::cuda
