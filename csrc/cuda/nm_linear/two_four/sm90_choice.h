// Clusters and blocks of the Hopper kernels on 2:4 weights (sm90_block.h) for a call. A model, not measured.
#pragma once

#include "cuda/nm_linear/two_four/sm90_block.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

inline std::int64_t sm90_row_blocks(std::int64_t rows) { return (rows + kSm90Rows - 1) / kSm90Rows; }

// Blocks of a cluster for so many blocks of 128 rows: as many as save reads from L2, unless more than an eighth of the blocks would have
// no rows.
inline unsigned sm90_cluster(std::int64_t row_blocks) {
    for (const unsigned cluster : {4u, 2u}) {
        const std::int64_t filled = (row_blocks + cluster - 1) / cluster * cluster;
        if ((filled - row_blocks) * 8 <= filled) return cluster;
    }
    return 1;
}

// Tokens of a block, 64, 128 or 256: the fewer, the more multiprocessors have work and the less of it is for tokens that are not there; the
// more, the fewer bytes a product.
inline int sm90_block_tokens(std::int64_t tokens, std::int64_t row_blocks, int multiprocessors) {
    int block = 256;
    const auto blocks = [&] { return row_blocks * ((tokens + block - 1) / block); };
    while (block > 64 && (tokens <= block / 2 || blocks() * 2 <= multiprocessors)) block /= 2;
    return block;
}

inline Grid sm90_grid(const LinearArgs& a, int block_tokens, unsigned cluster) {
    const std::int64_t clusters = (sm90_row_blocks(a.rows) + cluster - 1) / cluster;
    return {static_cast<unsigned>(clusters * cluster), static_cast<unsigned>((a.tokens + block_tokens - 1) / block_tokens)};
}

}  // namespace sparsecore::cuda
