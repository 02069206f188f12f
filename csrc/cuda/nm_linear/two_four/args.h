// What a launch of the 2:4 tensor-core kernels takes.
#pragma once

#include "cuda/nm_linear/tile_args.h"

namespace sparsecore::cuda {

// Weights lie in tiles of 16 rows x 64 columns, in the order in which the lanes of a warp multiply them (layout.h).
constexpr int kTileColumns = 64;
constexpr int kTileValueBytes = kTileRows * kTileColumns / 2 * 2, kTileMetadataWords = 32;

struct TwoFourArgs : TileArgs {
    const std::uint32_t* metadata;  // [row tiles, column tiles, kTileMetadataWords]
    DecodePlan plan;                // of the kernel for few tokens
};

}  // namespace sparsecore::cuda
