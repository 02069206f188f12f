// What dispatch.cpp calls: tokens [token_begin, token_end) of block rows [row_begin, row_end).
#pragma once

#include "cpu/block_linear/block_linear.h"

namespace sparsecore::cpu {

struct BlockPart {
    int64_t token_begin, token_end, row_begin, row_end;
};

// scratch: cols * kPortableTile floats.
void block_linear_portable(const LinearCall& call, const BlockWeight& weight, const BlockPart& part, float* scratch);

// Token super-tile: the activations of this many tokens stay in the second-level cache while the weights pass once.
static inline int64_t block_super_tile(int64_t cols) {
    constexpr int64_t kTile = 12, kCacheFloats = 64 * 1024;
    const int64_t tiles = cols > 0 ? kCacheFloats / (cols * kTile) : 16;
    return kTile * (tiles < 1 ? 1 : tiles > 16 ? 16 : tiles);
}
// scratch: cols * block_super_tile(cols) floats, not used where x is fp32 with neighbouring columns.
void block_linear_avx512(const LinearCall& call, const BlockWeight& weight, const BlockPart& part, float* scratch);

}  // namespace sparsecore::cpu
