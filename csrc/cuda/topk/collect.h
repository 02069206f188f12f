// One pass over a part of a row that leaves its candidates in shared memory: a superset of the k largest.
//
// At first all elements are candidates. When there is no room for another tile, only the k largest so far stay (and perhaps
// some more, if that is found sooner), and only what is larger than the least of them can still count: of equals the lower
// position wins. So every row is read once, with any contents; on data in random order the limit rises some 7 times for
// k = 2048 in 2^18 elements.
#pragma once

#include "cuda/topk/candidates.h"
#include "cuda/topk/tile.h"

namespace sparsecore::cuda {

// The first n <= kCapacity elements of a part, as they are. Ends with a barrier.
template <class T, class Store>
SC_DEVICE void fill(const T* data, std::uint32_t n, Store& c) {
    constexpr int kItems = 4;  // loads under way for a thread
    for (std::uint32_t first = thread_x(); first < n; first += Store::kThreads * kItems) {
        T element[kItems];
SC_UNROLL
        for (int i = 0; i < kItems; ++i) {
            const std::uint32_t at = first + i * Store::kThreads;
            if (at < n) element[i] = data[at];
        }
SC_UNROLL
        for (int i = 0; i < kItems; ++i) {
            const std::uint32_t at = first + i * Store::kThreads;
            if (at >= n) continue;
            c.key[at] = Order<T>::key(element[i]);
            c.position[at] = at;
        }
    }
    block_barrier();
}

// Appends the elements of a thread's part of a tile that are beyond the limit. Whether there is no room for one more tile.
template <class T, int kThreads, class Store>
SC_DEVICE bool append(const Tile<T, kThreads>& tile, int lead, int index, typename Order<T>::Limit limit, Store& c) {
    constexpr int kSize = Unit<T>::kSize;
    unsigned beyond = 0;
SC_UNROLL
    for (int i = 0; i < kTileItems; ++i) {
        beyond |= static_cast<unsigned>(Order<T>::beyond(tile.unit[i / kSize].element[i % kSize], limit)) << i;
    }
    if (beyond == 0) return false;
    const auto number = static_cast<std::uint32_t>(count_bits(beyond));
    std::uint32_t at = atomic_add(&c.count, number);
    const bool full = at + number > Store::kMostWanted;
SC_UNROLL
    for (int i = 0; i < kTileItems; ++i) {
        if ((beyond >> i & 1u) == 0) continue;
        c.key[at] = Order<T>::key(tile.unit[i / kSize].element[i % kSize]);
        c.position[at++] = static_cast<std::uint32_t>(Store::kCapacity + tile.first_of(lead, index, i / kSize) + i % kSize);
    }
    return full;
}

// Drops candidates to make room. Returns the least key that was kept, or one below it.
template <class T, class Store>
SC_DEVICE typename Store::Key make_room(Store& c, std::uint32_t count, std::uint32_t k) {
    const auto cut = cut_candidates<Order<T>::kBits>(c, count, k, (k + Store::kMostWanted) / 2);
    keep_taken(c, count, cut);
    return cut.least;
}

// Returns the number of candidates, which are complete for all threads. k <= Store::kMostWanted, or the part fits whole.
template <class T, class Store>
SC_DEVICE std::uint32_t collect(const RowPart<T>& part, std::uint32_t k, Store& c) {
    using Row = Tile<T, Store::kThreads>;
    if (part.n <= Store::kCapacity) {
        fill(part.data, static_cast<std::uint32_t>(part.n), c);
        return static_cast<std::uint32_t>(part.n);
    }
    const RowPart<T> rest{part.data + Store::kCapacity, part.n - Store::kCapacity};
    const int lead = rest.lead(), tiles = (lead + rest.n + Row::kSize - 1) / Row::kSize;
    // Two tiles are under way while one is looked at. Registers that are being loaded must not be moved: that would wait.
    Row even, odd;
    even.load(rest, lead, 0);
    odd.load(rest, lead, 1);
    if (thread_x() == 0) c.count = Store::kCapacity;
    fill(part.data, Store::kCapacity, c);
    auto limit = Order<T>::above(0);
    bool full = true;
SC_ROLLED
    for (int index = 0; index < tiles; ++index) {
        if (full) {
            const auto least = make_room<T>(c, c.count, k);
            if (least == Order<T>::kLargest) break;  // nothing is larger
            limit = Order<T>::above(least);
        }
        Row tile;
        if (index % 2 == 0) {
            tile = even;
            even.load(rest, lead, index + 2);
        } else {
            tile = odd;
            odd.load(rest, lead, index + 2);
        }
        full = block_barrier_any(append(tile, lead, index, limit, c));
    }
    return c.count;
}

}  // namespace sparsecore::cuda
