// Sizes of the Hopper kernel of bytes (sm90_gemm.h) for a call. A model, not measured.
#pragma once

#include <cstdint>

namespace sparsecore::cuda {

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

}  // namespace sparsecore::cuda
