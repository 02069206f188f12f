// A row in tiles: a thread has kTileItems elements of each, read 16 bytes at a time whatever the row's alignment.
#pragma once

#include "cuda/ptx/thread.h"
#include "cuda/topk/keys.h"

namespace sparsecore::cuda {

template <class T>
struct alignas(16) Unit {
    static constexpr int kSize = 16 / sizeof(T);
    T element[kSize];
};

// The part of a row that a block reads.
template <class T>
struct RowPart {
    const T* data;
    int n;  // at most 2^30: places beyond the end must fit

    // Units of 16 bytes start so many elements before the part.
    SC_DEVICE int lead() const { return static_cast<int>(reinterpret_cast<std::uintptr_t>(data) % 16 / sizeof(T)); }
};

template <class T, int kThreads>
struct Tile {
    static constexpr int kUnits = kTileItems / Unit<T>::kSize, kSize = kThreads * kTileItems;
    Unit<T> unit[kUnits];

    // Place of the thread's unit in the part; in front of it that is negative.
    SC_DEVICE static int first_of(int lead, int tile, int unit) {
        return tile * kSize + (unit * kThreads + static_cast<int>(thread_x())) * Unit<T>::kSize - lead;
    }

    // Elements outside of the part are beyond no limit.
    SC_DEVICE void load(const RowPart<T>& part, int lead, int tile) {
SC_UNROLL
        for (int u = 0; u < kUnits; ++u) {
            const int first = first_of(lead, tile, u);
            if (first >= 0 && first + Unit<T>::kSize <= part.n) {
                unit[u] = *reinterpret_cast<const Unit<T>*>(part.data + first);
                continue;
            }
SC_UNROLL
            for (int e = 0; e < Unit<T>::kSize; ++e) {
                unit[u].element[e] = first + e >= 0 && first + e < part.n ? part.data[first + e] : Order<T>::never();
            }
        }
    }
};

}  // namespace sparsecore::cuda
