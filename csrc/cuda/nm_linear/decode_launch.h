// Launch of the decode kernel for weights in tiles; for .cu files.
#pragma once

#include "cuda/nm_linear/decode.h"
#include "cuda/nm_linear/plan.h"
#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

template <class Tiles, int kTokens>
void launch_decode_tokens(const typename Tiles::Args& a, std::uint64_t stream) {
    using Shape = DecodeShape<Tiles, kTokens>;
    const Grid grid{static_cast<unsigned>((a.row_tiles + Shape::kRowTiles - 1) / Shape::kRowTiles),
                    at_most_grid_y((a.tokens + kTokens - 1) / kTokens), static_cast<unsigned>(a.plan.splits)};
    launch("cuda_nm_linear", nm_decode<Tiles, kTokens>, grid, kDecodeThreads, shared_bytes<typename Shape::Shared>(), stream, a);
}

template <class Results>
void launch_sum_splits(const typename Results::Args& a, const DecodePlan& plan, std::uint64_t stream) {
    if (plan.splits == 1) return;
    const std::int64_t blocks = (a.tokens * a.rows + kDecodeThreads - 1) / kDecodeThreads;
    launch("cuda_nm_linear", sum_splits<Results>, Grid{at_most_grid_y(blocks)}, kDecodeThreads, 0, stream, a, plan);
}

template <class Tiles>
void launch_decode(const typename Tiles::Args& a, std::uint64_t stream) {
    if (a.tokens <= 4) {
        launch_decode_tokens<Tiles, 4>(a, stream);
    } else if (a.tokens <= 8) {
        launch_decode_tokens<Tiles, 8>(a, stream);
    } else {
        launch_decode_tokens<Tiles, 16>(a, stream);
    }
    launch_sum_splits<typename Tiles::Results>(a, a.plan, stream);
}

}  // namespace sparsecore::cuda
