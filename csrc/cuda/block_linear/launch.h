// The launch of the block-sparse kernels for one element type.
#pragma once

#include "cuda/block_linear/choice.h"
#include "cuda/block_linear/sm80_decode.h"
#include "cuda/block_linear/sm80_gemm.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda::block {

template <class T, int kTokenTiles>
void launch_decode(const BlockArgs& a, std::uint64_t stream) {
    constexpr int kTokens = kTokenTiles * kTokenTile;
    const std::int64_t block_rows = a.bands * (kBandRows / a.height), parts = a.height / decode_rows(a.height);
    const Grid grid{static_cast<unsigned>(block_rows * parts), at_most_grid_y((a.tokens + kTokens - 1) / kTokens)};
    launch("cuda_block_linear", sm80_decode<T, kTokenTiles>, grid, kFewThreads,
           shared_bytes<DecodeSums<kDecodeRowTiles, kTokenTiles>>(), stream, a);
}

template <class T>
void launch_sm80(const BlockArgs& a, std::uint64_t stream) {
    if (a.tokens <= kTokenTile) return launch_decode<T, 1>(a, stream);
    if (a.tokens <= kMostDecodeTokens) return launch_decode<T, 2>(a, stream);
    const Grid grid{static_cast<unsigned>(a.bands), at_most_grid_y((a.tokens + kGemmTokens - 1) / kGemmTokens)};
    launch("cuda_block_linear", sm80_gemm<T>, grid, kGemmThreads, shared_bytes<GemmShared>(), stream, a);
}

}  // namespace sparsecore::cuda::block
