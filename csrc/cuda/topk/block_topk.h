// Top-k of longer rows by blocks that read them once.
//
// Floor: the bytes of x at the bandwidth of memory: 268 MB (256 x 262144 fp32) in 62 us at 4.3 TB/s. A block's loads are 16
// bytes wide and two tiles ahead (32 KB of fp32 under way a block, two blocks an SM); an element that is no candidate costs a
// comparison and its share of a barrier, some 14 instructions of the 27 that an SM can issue in the time. The selections in
// between, one to two us each, run while the other block of the SM reads. A row that fits whole is one launch with one selection.
//
// A batch that leaves SMs idle is cut into pieces of rows: blocks find the k largest of their piece, and a second launch
// selects among those of a row, which lie in index order as well.
#pragma once

#include "cuda/topk/collect.h"
#include "cuda/topk/output.h"

namespace sparsecore::cuda {

// The k largest of each piece: positions within the piece. Those of a row follow each other without gaps.
template <class T>
struct Finds {
    KeyElement<T>* keys;       // [rows, pieces * k]
    std::uint32_t* positions;  // the same
    std::int64_t pieces, piece_length;  // a piece is at least k long, the last one of a row perhaps shorter

    SC_DEVICE std::int64_t start(const TopkArgs& a, std::int64_t row) const { return row * pieces * a.k; }
};

template <class T, int kThreads>
using Store = Candidates<typename Order<T>::Key, kThreads>;

// Two blocks an SM for keys of 4 bytes; the candidates of others fill most of it.
template <class T>
constexpr int topk_blocks() {
    return sizeof(typename Order<T>::Key) == 4 ? 2 : 1;
}

// Selects k of a part of row `row`, and calls write(place, position) for each of them, or writes the threshold alone. Ends with a
// barrier.
template <class T, class Element, class Shared, class Write>
SC_DEVICE void select_part(const TopkArgs& a, std::int64_t row, const RowPart<Element>& part, std::uint32_t k, bool threshold,
                           Shared& shared, Write&& write) {
    const std::uint32_t count = collect(part, k, shared);
    const auto cut = cut_candidates<Order<T>::kBits>(shared, count, k, threshold ? 0 : k);
    if (threshold) {
        if (thread_x() == 0) write_threshold<T>(a, row, cut.least);
    } else {
        order_taken(shared, count, cut, static_cast<std::uint32_t>(part.n));
        for (auto at = thread_x(); at < k; at += Shared::kThreads) write(at, shared.ordered[at]);
    }
    block_barrier();
}

// Grid: any number of blocks of kThreads, which loop over the rows.
template <class T, int kThreads>
SC_GLOBAL void SC_BOUNDS(kThreads, topk_blocks<T>()) block_topk(TopkArgs a) {
    auto& shared = shared_memory<Store<T, kThreads>>();
    for (std::int64_t row = block_x(); row < a.rows; row += grid_dim_x()) {
        const RowSizes sizes = row_sizes(a, row);
        if (a.threshold == nullptr) write_padding(a, row, sizes.k, static_cast<int>(thread_x()), kThreads);
        if (sizes.k == 0) continue;
        const RowPart<T> part{row_start<T>(a, row), static_cast<int>(sizes.n)};
        select_part<T>(a, row, part, static_cast<std::uint32_t>(sizes.k), a.threshold != nullptr, shared,
                       [&](std::uint32_t at, std::uint32_t position) { write_taken<T>(a, row, at, position); });
    }
}

// The same for pieces of rows. Grid: x = pieces, y = any number of rows.
template <class T, int kThreads>
SC_GLOBAL void SC_BOUNDS(kThreads, topk_blocks<T>()) piece_topk(TopkArgs a, Finds<T> finds) {
    auto& shared = shared_memory<Store<T, kThreads>>();
    const std::int64_t first = block_x() * finds.piece_length;
    for (std::int64_t row = block_y(); row < a.rows; row += grid_dim_y()) {
        const RowSizes sizes = row_sizes(a, row);
        const std::int64_t left = sizes.n - first;
        if (left <= 0 || sizes.k == 0) continue;
        const auto n = static_cast<int>(left < finds.piece_length ? left : finds.piece_length);
        const auto k = static_cast<int>(sizes.k);
        const RowPart<T> part{row_start<T>(a, row) + first, n};
        select_part<T>(a, row, part, static_cast<std::uint32_t>(k < n ? k : n), false, shared,
                       [&](std::uint32_t at, std::uint32_t position) {
                           const std::int64_t place = finds.start(a, row) + block_x() * std::int64_t{k} + at;
                           finds.keys[place].key = Order<T>::key(part.data[position]);
                           finds.positions[place] = position;
                       });
    }
}

// The k largest of each row among the finds of its pieces. Grid and block as block_topk.
template <class T, int kThreads>
SC_GLOBAL void SC_BOUNDS(kThreads, 1) merge_topk(TopkArgs a, Finds<T> finds) {
    auto& shared = shared_memory<Store<T, kThreads>>();
    for (std::int64_t row = block_x(); row < a.rows; row += grid_dim_x()) {
        const RowSizes sizes = row_sizes(a, row);
        if (a.threshold == nullptr) write_padding(a, row, sizes.k, static_cast<int>(thread_x()), kThreads);
        if (sizes.k == 0) continue;
        const std::int64_t whole = sizes.n / finds.piece_length, rest = sizes.n % finds.piece_length;
        const std::int64_t count = whole * sizes.k + (rest < sizes.k ? rest : sizes.k);
        const auto k = static_cast<std::uint32_t>(sizes.k);
        const RowPart<KeyElement<T>> part{finds.keys + finds.start(a, row), static_cast<int>(count)};
        select_part<T>(a, row, part, k, a.threshold != nullptr, shared, [&](std::uint32_t at, std::uint32_t find) {
            const std::int64_t position = finds.positions[finds.start(a, row) + find];
            write_taken<T>(a, row, at, find / k * finds.piece_length + position);
        });
    }
}

}  // namespace sparsecore::cuda
