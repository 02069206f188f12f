#include "cuda/attention/decode/store.h"

#include "cuda/attention/decode/append.h"
#include "cuda/attention/decode/compact.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda::decode {

void append_launch(const AppendArgs& a, std::uint64_t stream) {
    const std::int64_t rows = a.batch * a.kv_heads * a.tokens, blocks = (rows + kAppendWarps - 1) / kAppendWarps;
    if (rows == 0) return;
    constexpr std::int64_t kMostBlocks = 1 << 20;
    const Grid grid{static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks)};
    launch("cuda_kv_append", append_kernel, grid, kAppendWarps * kWarpSize, 0, stream, a);
}

void compact_launch(const CompactArgs& a, std::uint64_t stream) {
    if (a.batch == 0 || a.kv_heads == 0 || a.most_rows == 0 || a.slots == 0) return;
    const Grid grid{static_cast<unsigned>(a.batch * a.kv_heads * a.parts)};
    launch("cuda_kv_compact", compact_kernel, grid, kThreads, 0, stream, a);
}

}  // namespace sparsecore::cuda::decode
