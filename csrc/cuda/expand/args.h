// What a launch of the expanding kernels takes, in plain data; pointers are device memory.
#pragma once

#include <cstdint>

namespace sparsecore::cuda {

// The order that a weight lies in: those of nm_linear, of block_linear/layout.h and of bitmask_linear/layout.h.
enum class ExpandLayout { Groups, TwoFour, TwoFourBytes, Octets, ByteOctets, Gathered, Blocks, TiledBlocks, Bitmask };

struct ExpandArgs {
    const void* values;
    const void* positions;  // codes, metadata, block columns, masks
    const void* extra;      // high codes, chosen columns, block row offsets, starts of tiles, or null
    void* out;              // dense [rows, cols]
    std::int64_t rows, cols;
    std::int64_t first, second;  // n and m, or height and width of a block
    std::int64_t chunks;         // N:M: of a row, or column tiles
    int code_bits;               // Groups, Octets: of a position
    int block_rows;              // Gathered: that chose columns together
    bool marks_pruned;           // pruned positions are written as -0, kept zeros as +0
};

}  // namespace sparsecore::cuda
