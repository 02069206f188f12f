// What a launch on a weight in octets takes (layout.h).
#pragma once

#include "cuda/nm_linear/tile_args.h"

namespace sparsecore::cuda {

struct OctetArgs : TileArgs {
    const std::uint16_t* codes;      // [row tiles, column tiles, 32]
    const std::uint8_t* high_codes;  // [row tiles, column tiles, 32] or null
    std::int64_t kept;               // of a row
    int n, m;
    DecodePlan plan;
};

}  // namespace sparsecore::cuda
