// The launch of the Hopper kernel for one element type; its .cu files are compiled for sm_90a alone.
#pragma once

#include "cuda/nm_linear/two_four/sm90_gemm.h"
#include "cuda/nm_linear/two_four/two_four.h"
#include "cuda/runtime/launch.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda {

template <class T, int kTokens>
void launch_sm90_tokens(const TwoFourArgs& a, std::uint64_t stream) {
    const TensorMap map = matrix_map(a.x, a.tokens, a.cols, a.x_token_stride, kTokens);
    const Grid grid{static_cast<unsigned>((a.rows + kSm90Rows - 1) / kSm90Rows),
                    static_cast<unsigned>((a.tokens + kTokens - 1) / kTokens)};
    launch("cuda_nm_linear", sm90_two_four_gemm<T, kTokens>, grid, kSm90Threads, sizeof(Sm90Shared<kTokens>), stream, a, map);
}

template <class T>
void launch_sm90(const TwoFourArgs& a, std::uint64_t stream) {
    if (a.tokens <= 64) return launch_sm90_tokens<T, 64>(a, stream);
    if (a.tokens <= 128) return launch_sm90_tokens<T, 128>(a, stream);
    launch_sm90_tokens<T, 256>(a, stream);
}

}  // namespace sparsecore::cuda
