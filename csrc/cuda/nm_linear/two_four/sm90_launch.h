// The launch of the Hopper kernel for one element type; its .cu files are compiled for sm_90a alone.
#pragma once

#include "cuda/nm_linear/two_four/sm90_choice.h"
#include "cuda/nm_linear/two_four/sm90_gemm.h"
#include "cuda/nm_linear/two_four/two_four.h"
#include "cuda/runtime/launch.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda {

template <class T, int kTokens>
void launch_sm90_tokens(const TwoFourArgs& a, std::uint64_t stream) {
    const unsigned cluster = sm90_cluster(sm90_row_blocks(a.rows));
    const TensorMap map = matrix_map(a.x, a.tokens, a.cols, a.x_token_stride, kTokens / static_cast<int>(cluster));
    launch_clusters("cuda_nm_linear", sm90_two_four_gemm<T, kTokens>, cluster, sm90_grid(a, kTokens, cluster), kSm90Threads,
                    hopper_shared_bytes<Sm90Shared<kTokens>>(), stream, a, map);
}

template <class T>
void launch_sm90(const TwoFourArgs& a, std::uint64_t stream) {
    switch (sm90_block_tokens(a.tokens, sm90_row_blocks(a.rows), multiprocessors())) {
        case 64: return launch_sm90_tokens<T, 64>(a, stream);
        case 128: return launch_sm90_tokens<T, 128>(a, stream);
        default: return launch_sm90_tokens<T, 256>(a, stream);
    }
}

}  // namespace sparsecore::cuda
