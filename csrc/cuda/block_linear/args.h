// What a launch of the block-sparse kernels takes, in plain data; pointers are device memory. The tables are described in layout.h.
#pragma once

#include "cuda/common/linear_args.h"

namespace sparsecore::cuda {

namespace block {

constexpr int kBandRows = 128;  // output rows that one block of threads computes: one, two, four or eight block rows
constexpr int kRowTile = 16;    // rows of fragment A; a band has eight such tiles
constexpr int kSlabColumns = 64;

// Steps: the block column, and a bit for each row tile of the band that keeps its block there.
constexpr int kStepTileBits = kBandRows / kRowTile;
constexpr std::uint32_t kStepTiles = (1u << kStepTileBits) - 1;

}  // namespace block

struct BlockArgs : LinearArgs {
    const std::uint16_t* values;       // [blocks, height, width], see block::unit_place
    const std::int32_t* columns;       // [blocks] block column
    const std::int64_t* row_offsets;   // [block rows + 1] into the blocks
    const std::int32_t* band_rows;     // [bands, kBandRows / height] block row, or -1
    const std::int64_t* band_steps;    // [bands + 1] into the steps
    const std::uint32_t* steps;
    std::int64_t bands;
    int height, width;  // of a block: 16, 32, 64 or 128 each
};

}  // namespace sparsecore::cuda
