// The launches of top-k for one element type; included by one .cu file for each, so that they compile side by side.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/runtime/launch.h"
#include "cuda/topk/block_topk.h"
#include "cuda/topk/radix_topk.h"
#include "cuda/topk/topk.h"
#include "cuda/topk/warp_topk.h"

namespace sparsecore::cuda {

// Kernels loop over what is more than a grid holds.
inline Grid grid_of(std::int64_t blocks) {
    return {static_cast<unsigned>(std::min<std::int64_t>(blocks, INT32_MAX)), 1, 1};
}

template <class T>
void launch_pieces(const char* where, const TopkArgs& a, const TopkPlan& plan, void* workspace, std::uint64_t stream) {
    auto* keys = static_cast<KeyElement<T>*>(workspace);
    auto* positions = reinterpret_cast<std::uint32_t*>(keys + a.rows * plan.pieces * a.k);
    const Finds<T> finds{keys, positions, plan.pieces, plan.piece_length};
    constexpr std::size_t kShared = shared_bytes<Store<T, kTopkThreads>>();
    const Grid grid{static_cast<unsigned>(plan.pieces), at_most_grid_y(a.rows)};
    launch(where, piece_topk<T, kTopkThreads>, grid, kTopkThreads, kShared, stream, a, finds);
    launch(where, merge_topk<T, kTopkThreads>, grid_of(a.rows), kTopkThreads, kShared, stream, a, finds);
}

// `rows` rows from `first` on.
template <class T>
TopkArgs rows_of(TopkArgs a, std::int64_t first, std::int64_t rows) {
    a.rows = rows;
    a.x = static_cast<const T*>(a.x) + first * a.row_stride;
    if (a.keep != nullptr) {
        a.counts += first * a.counts_stride;
        a.keep += first * a.keep_stride;
    }
    if (a.values != nullptr) a.values = static_cast<T*>(a.values) + first * a.k;
    if (a.indices != nullptr) a.indices += first * a.k;
    if (a.threshold != nullptr) a.threshold = static_cast<T*>(a.threshold) + first;
    return a;
}

template <class T>
void launch_radix(const char* where, const TopkArgs& a, const TopkPlan& plan, void* workspace, std::uint64_t stream) {
    constexpr int kDigits = Digit<Order<T>::kBits>::kCount;
    RadixArgs r{};
    r.chunks = plan.pieces;
    r.chunk_length = plan.piece_length;
    r.digits = kDigits;
    r.histograms = static_cast<std::uint64_t*>(workspace);
    r.searches = reinterpret_cast<RadixSearch*>(r.histograms + plan.group_rows * kDigits * kBins);
    r.tallies = reinterpret_cast<Tally<std::uint32_t>*>(r.searches + plan.group_rows * kDigits);
    for (std::int64_t first = 0; first < a.rows; first += plan.group_rows) {
        r.rows = rows_of<T>(a, first, std::min(plan.group_rows, a.rows - first));
        const Grid grid = grid_of(r.rows.rows * r.chunks);
        launch(where, radix_clear<T>, grid, kRadixThreads, 0, stream, r);
        for (int digit = 0; digit < kDigits; ++digit) {
            launch(where, radix_count<T>, grid, kRadixThreads, shared_bytes<RadixShared>(), stream, r, digit);
        }
        launch(where, radix_tally<T>, grid, kRadixThreads, shared_bytes<RadixShared>(), stream, r);
        if (a.threshold != nullptr) continue;
        launch(where, radix_write<T>, grid, kRadixThreads, shared_bytes<RadixShared>(), stream, r);
    }
}

template <class T>
void launch_topk(const TopkArgs& a, const TopkPlan& plan, void* workspace, std::uint64_t stream) {
    const char* where = "cuda_topk";
    switch (plan.method) {
        case TopkMethod::Warp:
            return launch(where, warp_topk<T>, grid_of((a.rows + kWarpBlock - 1) / kWarpBlock), kWarpBlock * kWarpSize, 0, stream, a);
        case TopkMethod::Block:
            return launch(where, block_topk<T, kTopkThreads>, grid_of(a.rows), kTopkThreads,
                          shared_bytes<Store<T, kTopkThreads>>(), stream, a);
        case TopkMethod::Pieces:
            return launch_pieces<T>(where, a, plan, workspace, stream);
        case TopkMethod::Radix:
            return launch_radix<T>(where, a, plan, workspace, stream);
    }
}

}  // namespace sparsecore::cuda
