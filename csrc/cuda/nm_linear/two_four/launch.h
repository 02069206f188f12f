// The launch of the 2:4 kernels for one element type; included by one .cu file for each, so that they compile side by side.
#pragma once

#include "cuda/nm_linear/decode_launch.h"
#include "cuda/nm_linear/two_four/sm80_gemm.h"
#include "cuda/nm_linear/two_four/tiles.h"
#include "cuda/nm_linear/two_four/two_four.h"

namespace sparsecore::cuda {

template <class T>
void launch_two_four(const TwoFourArgs& a, std::uint64_t stream) {
    if (a.tokens <= kMostDecodeTokens) return launch_decode<TwoFourTiles<T>>(a, stream);
    const Grid grid{static_cast<unsigned>((a.rows + kGemmRows - 1) / kGemmRows),
                    at_most_grid_y((a.tokens + kGemmTokens - 1) / kGemmTokens)};
    launch("cuda_nm_linear", sm80_two_four_gemm<T>, grid, kGemmThreads, shared_bytes<GemmShared>(), stream, a);
}

}  // namespace sparsecore::cuda
