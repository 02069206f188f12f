// The launch of the Hopper kernel for one element type; its .cu files are compiled for sm_90a alone.
#pragma once

#include "cuda/attention/prefill/prefill.h"
#include "cuda/attention/prefill/sm90_prefill.h"
#include "cuda/runtime/launch.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda {

// Heads [batch, head, token, column] with boxes of 64 tokens. A dimension of one has no stride: any that a map takes will do.
inline TensorMap heads_map(const PrefillTensor& t, int batch, int heads, int tokens, int width) {
    const std::int64_t least = (width + 7) / 8 * 8;
    const auto stride = [least](std::int64_t given, int size) { return size > 1 ? given : least; };
    return matrices_map(t.data,
                        {tokens, width, stride(t.token_stride, tokens), heads, stride(t.head_stride, heads), batch,
                         stride(t.batch_stride, batch)},
                        kStripKeys);
}

template <class T, int kWidth>
void launch_sm90_width(const PrefillArgs& a, std::uint64_t stream) {
    const std::int64_t blocks = (std::int64_t{a.queries} + kSm90PrefillQueries - 1) / kSm90PrefillQueries * a.heads * a.batch;
    launch("cuda_scored_attention", sm90_prefill<T, kWidth>, {static_cast<unsigned>(blocks)}, kSm90PrefillThreads,
           hopper_shared_bytes<Sm90PrefillShared<kWidth>>(), stream, a, heads_map(a.q, a.batch, a.heads, a.queries, a.width),
           heads_map(a.k, a.batch, a.key_heads, a.keys, a.width), heads_map(a.v, a.batch, a.key_heads, a.keys, a.value_width));
}

template <class T>
void launch_sm90_prefill(const PrefillArgs& a, std::uint64_t stream) {
    if (a.width <= 64 && a.value_width <= 64) return launch_sm90_width<T, 64>(a, stream);
    launch_sm90_width<T, 128>(a, stream);
}

}  // namespace sparsecore::cuda
