// What a launch on a gathered weight takes (layout.h).
#pragma once

#include "cuda/common/words.h"
#include "cuda/nm_linear/two_four/args.h"

namespace sparsecore::cuda {

constexpr int kTileGroups = kTileColumns / 4;  // groups of columns whose four a tile multiplies

constexpr std::int64_t kMostGatheredDecodeTokens = 8;  // beyond, picking columns costs the decode kernel more than reading weights

// A 2:4 weight whose columns 4g to 4g + 3 are four of group g of x's columns: those of the weight's own block of rows.
struct GatheredArgs : TwoFourArgs {
    const std::uint16_t* chosen;  // [row blocks, column tiles, kTileGroups]: four places in a group, 4 bits each, ascending
    int group;                    // columns of a group: 8 or 16
    int block_rows;               // 64 or 128
    std::uint16_t* columns;       // [cols, column_tokens]: memory for x transposed, or null: then the kernels of sm_80 run
    std::int64_t column_tokens;   // a multiple of kUnit; more tokens than these are computed one such part after the other
};

}  // namespace sparsecore::cuda
