// 2:4 tiles in the decode kernel (nm_linear/decode.h): mma.sp on weights that are read once, 1.125 bytes a dense element.
#pragma once

#include "cuda/common/element.h"
#include "cuda/nm_linear/decode.h"
#include "cuda/nm_linear/two_four/args.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda {

// One warp's 16 rows and 64 columns, as layout.h gives them to a lane.
struct TwoFourTile {
    Words4 halves[2];
    std::uint32_t metadata;
};

template <class T>
struct TwoFourTiles : OwnColumns {
    using Args = TwoFourArgs;
    using Element = T;
    using Sum = float;
    using Results = FloatResults<T>;
    using Tile = TwoFourTile;
    static constexpr int kColumns = kTileColumns, kDepth = 3, kPadding = kUnit;
    static constexpr bool kMultipliesZeros = false;

    // Of the calling lane, in the first tile of a row tile.
    struct RowTile {
        const Words4* values;
        const std::uint32_t* metadata;
    };

    static SC_DEVICE RowTile row_tile(const Args& a, std::int64_t index) {
        const std::int64_t first = index * a.column_tiles, lane = thread_x() % kWarpSize;
        return {static_cast<const Words4*>(a.values) + first * (kTileValueBytes / 16) + lane,
                a.metadata + first * kTileMetadataWords + lane};
    }

    static SC_DEVICE Tile load(const RowTile& row, std::uint32_t tile) {
        const Words4* values = row.values + std::size_t{tile} * (kTileValueBytes / 16);
        return {{values[0], values[kWarpSize]}, row.metadata[std::size_t{tile} * kTileMetadataWords]};
    }

    template <int kTokens, int kStride, int kRowTiles, int kTokenTiles>
    static SC_DEVICE void multiply(const Tile (&tiles)[kRowTiles], const std::uint16_t* x,
                                   float (&sums)[kRowTiles][kTokenTiles][4]) {
        const int lane = static_cast<int>(thread_x() % kWarpSize);
SC_UNROLL
        for (int j = 0; j < kTokenTiles; ++j) {
            const std::uint16_t* own = x + (j * 8 + lane % 8 % kTokens) * kStride + lane / 8 * kUnit;
            std::uint32_t b[4];
            load_matrix_x4(b, own);
SC_UNROLL
            for (int i = 0; i < kRowTiles; ++i) multiply_sparse<T, 0>(sums[i][j], tiles[i].halves[0].word, b, tiles[i].metadata);
            load_matrix_x4(b, own + kTileColumns / 2);
SC_UNROLL
            for (int i = 0; i < kRowTiles; ++i) multiply_sparse<T, 1>(sums[i][j], tiles[i].halves[1].word, b, tiles[i].metadata);
        }
    }
};

}  // namespace sparsecore::cuda
