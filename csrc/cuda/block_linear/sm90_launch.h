// The launch of the Hopper kernel for one element type; its .cu files are compiled for sm_90a alone.
#pragma once

#include "cuda/block_linear/choice.h"
#include "cuda/block_linear/sm90_gemm.h"
#include "cuda/runtime/launch.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda::block {

template <class T, int kTokens>
void launch_sm90_tokens(const BlockArgs& a, std::uint64_t stream) {
    const TensorMap map = matrix_map(a.x, a.tokens, a.cols, a.x_token_stride, kTokens);
    const std::int64_t items = item_count(a, kTokens), most = multiprocessors();
    launch("cuda_block_linear", sm90_gemm<T, kTokens>, Grid{static_cast<unsigned>(items < most ? items : most)}, kSm90Threads,
           hopper_shared_bytes<Sm90Shared<kTokens>>(), stream, a, map);
}

// As many tokens at a time as leave every multiprocessor something to do.
template <class T>
void launch_sm90(const BlockArgs& a, std::uint64_t stream) {
    if (item_count(a, 256) >= multiprocessors()) return launch_sm90_tokens<T, 256>(a, stream);
    if (item_count(a, 128) >= multiprocessors()) return launch_sm90_tokens<T, 128>(a, stream);
    launch_sm90_tokens<T, 64>(a, stream);
}

}  // namespace sparsecore::cuda::block
