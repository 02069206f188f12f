// The launch of the kernels on gathered weights for one element type; included by one .cu file for each.
#pragma once

#include "cuda/nm_linear/decode_launch.h"
#include "cuda/nm_linear/gathered/gathered.h"
#include "cuda/nm_linear/gathered/sm80_gemm.h"
#include "cuda/nm_linear/gathered/tiles.h"

namespace sparsecore::cuda {

template <class T, int kBlockRows, int kGroup, int kBlocks>
void launch_gathered_gemm(const GatheredArgs& a, std::uint64_t stream) {
    using Shape = GatheredShape<kBlockRows, kGroup, kBlocks>;
    const Grid grid{static_cast<unsigned>((a.rows + Shape::kRows - 1) / Shape::kRows),
                    at_most_grid_y((a.tokens + Shape::kTokens - 1) / Shape::kTokens)};
    launch("cuda_nm_linear", sm80_gathered_gemm<T, kBlockRows, kGroup, kBlocks>, grid, kGemmThreads, shared_bytes<typename Shape::Shared>(),
           stream, a);
}

// Two blocks of 128 rows at a time where that leaves every multiprocessor something to do.
template <class T, int kGroup>
void launch_gathered_rows(const GatheredArgs& a, std::uint64_t stream) {
    using Pair = GatheredShape<128, kGroup, 2>;
    const std::int64_t pairs = (a.rows + Pair::kRows - 1) / Pair::kRows * ((a.tokens + Pair::kTokens - 1) / Pair::kTokens);
    if (pairs >= multiprocessors()) return launch_gathered_gemm<T, 128, kGroup, 2>(a, stream);
    launch_gathered_gemm<T, 128, kGroup, 1>(a, stream);
}

template <class T, int kGroup>
void launch_gathered_groups(const GatheredArgs& a, std::uint64_t stream) {
    if (a.tokens <= kMostGatheredDecodeTokens) {  // 64 rows a block, which are of one block of the weight
        launch_decode_tokens<GatheredTiles<T, kGroup>, kMostGatheredDecodeTokens>(a, stream);
        return launch_sum_splits<FloatResults<T>>(a, a.plan, stream);
    }
    if (a.block_rows == 64) return launch_gathered_gemm<T, 64, kGroup, 2>(a, stream);
    launch_gathered_rows<T, kGroup>(a, stream);
}

template <class T>
void launch_gathered(const GatheredArgs& a, std::uint64_t stream) {
    if (a.group == 8) return launch_gathered_groups<T, 8>(a, stream);
    launch_gathered_groups<T, 16>(a, stream);
}

}  // namespace sparsecore::cuda
