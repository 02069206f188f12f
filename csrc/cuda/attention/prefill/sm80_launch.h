// The launch of the sm_80 kernels for one element type; included by one .cu file for each, so that they compile side by side.
#pragma once

#include "cuda/attention/prefill/prefill.h"
#include "cuda/attention/prefill/sm80_prefill.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

template <class T, int kWidth>
void launch_sm80_width(const PrefillArgs& a, std::uint64_t stream) {
    const std::int64_t blocks = (std::int64_t{a.queries} + kSm80PrefillQueries - 1) / kSm80PrefillQueries * a.heads * a.batch;
    launch("cuda_scored_attention", sm80_prefill<T, kWidth>, {at_most_grid_x(blocks)}, kSm80PrefillThreads,
           shared_bytes<Sm80PrefillShared<kWidth>>(), stream, a);
}

template <class T>
void launch_sm80_prefill(const PrefillArgs& a, std::uint64_t stream) {
    const int width = a.width > a.value_width ? a.width : a.value_width;
    if (width <= 32) return launch_sm80_width<T, 32>(a, stream);
    if (width <= 64) return launch_sm80_width<T, 64>(a, stream);
    if (width <= 128) return launch_sm80_width<T, 128>(a, stream);
    launch_sm80_width<T, 256>(a, stream);
}

}  // namespace sparsecore::cuda
