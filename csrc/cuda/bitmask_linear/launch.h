// The launch of the kernel for unstructured weights, for one element type.
#pragma once

#include "cuda/bitmask_linear/bitmask_linear.h"
#include "cuda/bitmask_linear/sm80_decode.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda::bitmask {

template <class T, int kTokenTiles>
void launch_decode(const BitmaskArgs& a, std::uint64_t stream) {
    constexpr int kTokens = kTokenTiles * kTokenTile;
    const Grid grid{static_cast<unsigned>(a.row_tiles), at_most_grid_y((a.tokens + kTokens - 1) / kTokens)};
    launch("cuda_bitmask_linear", sm80_decode<T, kTokenTiles>, grid, kFewThreads, shared_bytes<DecodeShared<kTokenTiles>>(), stream, a);
}

template <class T>
void launch_tokens(const BitmaskArgs& a, std::uint64_t stream) {
    a.tokens <= kTokenTile ? launch_decode<T, 1>(a, stream) : launch_decode<T, 2>(a, stream);
}

}  // namespace sparsecore::cuda::bitmask
