// Top-k of short rows, one warp each, the row in registers.
//
// Floor: a launch, some 3 us, and one read of a row, under 1 us; a large batch is bound by its bytes. The k-th key is found
// bit by bit: a step is a comparison for each element of a lane and one reduction over the warp. Bits that all elements share
// are skipped, and a step that leaves exactly k is the last: about log2 n steps on data without ties.
#pragma once

#include "cuda/ptx/reduce.h"
#include "cuda/topk/cut.h"
#include "cuda/topk/output.h"

namespace sparsecore::cuda {

constexpr int kWarpBlock = 4;  // warps of a block

// Lane l has elements l, l + 32, ... of the row; behind its end the key is 0 and must not be counted as equal.
template <class Key>
struct WarpRow {
    Key key[kWarpItems];
    int n, lane;

    SC_DEVICE bool holds(int item) const { return item * kWarpSize + lane < n; }

    SC_DEVICE std::uint32_t count_from(Key least) const {  // least > 0
        std::uint32_t own = 0;
SC_UNROLL
        for (int i = 0; i < kWarpItems; ++i) {
            if (i * kWarpSize < n) own += key[i] >= least;
        }
        return reduce_add(own);
    }
};

template <class T>
SC_DEVICE WarpRow<typename Order<T>::Key> load_row(const TopkArgs& a, std::int64_t row, int n) {
    WarpRow<typename Order<T>::Key> own;
    own.n = n;
    own.lane = static_cast<int>(thread_x() % kWarpSize);
    const T* x = row_start<T>(a, row);
SC_UNROLL
    for (int i = 0; i < kWarpItems; ++i) {
        own.key[i] = own.holds(i) ? Order<T>::key(x[i * kWarpSize + own.lane]) : 0;
    }
    return own;
}

// The bits in which keys of the row differ, or more: all below the highest such bit.
template <class Key>
SC_DEVICE Key differing_bits(const WarpRow<Key>& row, Key first) {
    Key own = 0;
SC_UNROLL
    for (int i = 0; i < kWarpItems; ++i) {
        if (row.holds(i)) own |= row.key[i] ^ first;
    }
    Key all = reduce_or(static_cast<std::uint32_t>(own));
    if constexpr (sizeof(Key) == 8) all |= static_cast<Key>(reduce_or(static_cast<std::uint32_t>(own >> 32))) << 32;
SC_UNROLL
    for (int step = 1; step < static_cast<int>(sizeof(Key)) * 8; step *= 2) all |= all >> step;
    return all;
}

// The largest key that at least k of the row reach. Unless `exact`, any key that parts the same k from the others will do.
template <class Key>
SC_DEVICE Cut<Key, std::uint32_t> cut_row(const WarpRow<Key>& row, std::uint32_t k, bool exact) {
    const Key first = shuffle(row.key[0], 0), differing = differing_bits(row, first);
    Key least = first & ~differing;
    for (Key bit = differing ^ differing >> 1; bit != 0; bit >>= 1) {
        const std::uint32_t count = row.count_from(least | bit);
        if (count >= k) least |= bit;
        if (count == k && !exact) return {least, k};
    }
    const std::uint32_t greater = least == static_cast<Key>(~Key{0}) ? 0 : row.count_from(least + 1);
    return {least, k - greater};
}

// Grid: any number of blocks of kWarpBlock warps; warps loop over the rows.
template <class T>
SC_GLOBAL void SC_BOUNDS(kWarpBlock * kWarpSize, sizeof(typename Order<T>::Key) == 4 ? 5 : 3) warp_topk(TopkArgs a) {
    const int lane = static_cast<int>(thread_x() % kWarpSize);
    const std::int64_t warps = static_cast<std::int64_t>(grid_dim_x()) * kWarpBlock;
    for (std::int64_t row = static_cast<std::int64_t>(block_x()) * kWarpBlock + thread_x() / kWarpSize; row < a.rows;
         row += warps) {
        const RowSizes sizes = row_sizes(a, row);
        if (sizes.k > 0) {
            const auto keys = load_row<T>(a, row, static_cast<int>(sizes.n));
            const auto cut = cut_row(keys, static_cast<std::uint32_t>(sizes.k), a.threshold != nullptr);
            if (a.threshold != nullptr) {
                if (lane == 0) write_threshold<T>(a, row, cut.least);
                continue;
            }
            Tally<std::uint32_t> before{0, 0};
SC_UNROLL
            for (int i = 0; i < kWarpItems; ++i) {
                if (i * kWarpSize >= keys.n) break;
                std::uint32_t at;
                if (place(cut, keys.key[i], keys.holds(i), before, at)) write_taken<T>(a, row, at, i * kWarpSize + lane);
            }
        }
        write_padding(a, row, sizes.k, lane, kWarpSize);
    }
}

}  // namespace sparsecore::cuda
