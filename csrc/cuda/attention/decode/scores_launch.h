// The launch of a kernel of scores; included by the .cu file of each kind of keys, so that they compile side by side.
#pragma once

#include "cuda/attention/decode/decode.h"
#include "cuda/attention/decode/scores.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda::decode {

inline Grid grid_of_items(const Args& a) { return {static_cast<unsigned>(a.batch * a.kv_heads * a.chunks * a.splits)}; }

template <Keys kKeys>
void launch_scores(const Args& a, std::uint64_t stream) {
    constexpr const char* kWhere = "cuda_decode_attention";
    constexpr std::size_t kShared = shared_bytes<ScoresShared<kKeys>>();
    if (a.group <= kTileQueries) {
        return launch(kWhere, scores_kernel<kKeys, 1>, grid_of_items(a), kThreads, kShared, stream, a);
    }
    launch(kWhere, scores_kernel<kKeys, kQueries / kTileQueries>, grid_of_items(a), kThreads, kShared, stream, a);
}

}  // namespace sparsecore::cuda::decode
