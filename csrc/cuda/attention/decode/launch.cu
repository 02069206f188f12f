#include "cuda/attention/decode/choose.h"
#include "cuda/attention/decode/decode.h"
#include "cuda/attention/decode/finish.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda::decode {

namespace {

constexpr const char* kWhere = "cuda_decode_attention";

void launch_choose(const Args& a, std::uint64_t stream) {
    const Grid grid{static_cast<unsigned>(a.batch * (a.group_values ? a.kv_heads : a.heads))};
    if (a.group_values) return launch(kWhere, choose_kernel<true>, grid, kSelectThreads, shared_bytes<ChooseShared>(), stream, a);
    launch(kWhere, choose_kernel<false>, grid, kSelectThreads, shared_bytes<ChooseShared>(), stream, a);
}

}  // namespace

void decode_launch(const Args& a, std::uint64_t stream) {
    if (a.batch == 0 || a.heads == 0) return;
    if (a.keys.planes == 0) {
        scores_launch_dense(a, stream);
    } else {
        scores_launch_planes(a, stream);
    }
    if (a.cuts != nullptr) launch_choose(a, stream);
    values_launch(a, stream);
    const Grid grid{static_cast<unsigned>(a.batch * a.heads)};
    launch(kWhere, finish_kernel, grid, kThreads, shared_bytes<FinishShared>(), stream, a);
}

}  // namespace sparsecore::cuda::decode
