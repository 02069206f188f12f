// The launch of the 2:4 kernels for one element type; included by one .cu file for each, so that they compile side by side.
#pragma once

#include "cuda/nm_linear/two_four/sm80_decode.h"
#include "cuda/nm_linear/two_four/sm80_gemm.h"
#include "cuda/nm_linear/two_four/two_four.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

template <class T, int kTokenTiles>
void launch_decode(const TwoFourArgs& a, std::uint64_t stream) {
    constexpr int kTokens = kTokenTiles * kDecodeTokens;
    const Grid grid{static_cast<unsigned>(a.row_tiles), at_most_grid_y((a.tokens + kTokens - 1) / kTokens)};
    launch("cuda_nm_linear", sm80_two_four_decode<T, kTokenTiles>, grid, kDecodeThreads,
           sizeof(DecodeShared<kTokenTiles>), stream, a);
}

template <class T>
void launch_two_four(const TwoFourArgs& a, std::uint64_t stream) {
    if (a.tokens <= kDecodeTokens) return launch_decode<T, 1>(a, stream);
    if (a.tokens <= kMostDecodeTokens) return launch_decode<T, 2>(a, stream);
    const Grid grid{static_cast<unsigned>((a.rows + kGemmRows - 1) / kGemmRows),
                    at_most_grid_y((a.tokens + kGemmTokens - 1) / kGemmTokens)};
    launch("cuda_nm_linear", sm80_two_four_gemm<T>, grid, kGemmThreads, sizeof(GemmShared), stream, a);
}

}  // namespace sparsecore::cuda
