// A warp's view of one tile of an unstructured weight.
#pragma once

#include "cuda/bitmask_linear/args.h"
#include "cuda/ptx/warp.h"

namespace sparsecore::cuda::bitmask {

constexpr int kQuads = 8;  // of four elements of one row, in a lane

// What a lane keeps of a tile's mask: word number `lane`, and how many values the words before it have.
struct TileMask {
    std::uint32_t word;
    int before;
};

SC_DEVICE TileMask count_mask(std::uint32_t word) {
    const int lane = static_cast<int>(thread_x() % kWarpSize), own = count_bits(word);
    int sum = own;
SC_UNROLL
    for (int step = 1; step < kWarpSize; step *= 2) {
        const int below = shuffle_up(sum, static_cast<unsigned>(step));
        sum += lane >= step ? below : 0;
    }
    return {word, sum - own};
}

// Which of its four elements of a quad the lane keeps, and the number of the first of them among the tile's values.
struct Quad {
    std::uint32_t kept;
    int first;
};

SC_DEVICE Quad find_quad(const TileMask& mask, int quad) {
    const int lane = static_cast<int>(thread_x() % kWarpSize), from = quad * 4 + lane / 8, shift = lane % 8 * 4;
    const std::uint32_t word = shuffle(mask.word, from);
    return {word >> shift & 15u, shuffle(mask.before, from) + count_bits(word & ((1u << shift) - 1))};
}

}  // namespace sparsecore::cuda::bitmask
