// The launch of the Hopper kernel for one element type; its .cu files are compiled for sm_90a alone.
#pragma once

#include "cuda/nm_linear/int8/sm90_gemm.h"
#include "cuda/nm_linear/two_four/sm90_choice.h"
#include "cuda/runtime/launch.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda {

template <class T, int kTokens>
void launch_sm90_bytes(const Int8Args& a, core::DType type, std::uint64_t stream) {
    const unsigned cluster = sm90_cluster(sm90_row_blocks(a.call.rows));
    const TensorMap map = matrix_map(a.q, a.call.tokens, a.q_stride / 2, a.q_stride / 2, kTokens / static_cast<int>(cluster));
    launch_clusters("cuda_int8_linear", sm90_byte_gemm<T, kTokens>, cluster, sm90_grid(a.call, kTokens, cluster), kSm90Threads,
                    hopper_shared_bytes<Sm90ByteShared<T, kTokens>>(), stream, a, type, map);
}

template <class T>
void launch_sm90_bytes(const Int8Args& a, core::DType type, std::uint64_t stream) {
    switch (sm90_block_tokens(a.call.tokens, sm90_row_blocks(a.call.rows), multiprocessors())) {
        case 64: return launch_sm90_bytes<T, 64>(a, type, stream);
        case 128: return launch_sm90_bytes<T, 128>(a, type, stream);
        default: return launch_sm90_bytes<T, 256>(a, type, stream);
    }
}

}  // namespace sparsecore::cuda
