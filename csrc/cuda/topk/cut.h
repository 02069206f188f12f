// Where a row is cut, and the place of every element that is taken.
//
// Taken are the elements with a key above `least`, and the first `ties` of those with that very key. Of elements in index
// order the place among the taken ones is then a matter of counting, so the result depends on no order of execution.
#pragma once

#include "cuda/ptx/reduce.h"
#include "cuda/ptx/warp.h"
#include "cuda/topk/args.h"

namespace sparsecore::cuda {

template <class Key, class Count>
struct Cut {
    Key least;
    Count ties;
};

// Elements counted in front of some place.
template <class Count>
struct Tally {
    Count greater, equal;

    // `ties`: of the cut, as everywhere.
    SC_DEVICE Count taken(Count ties) const { return greater + (equal < ties ? equal : ties); }
};

// Lanes hold elements in index order. Says whether the lane's own is taken, and at which place, and counts all of the warp into
// `before`.
template <class Key, class Count>
SC_DEVICE bool place(const Cut<Key, Count>& cut, Key key, bool valid, Tally<Count>& before, Count& at) {
    const bool is_greater = valid && key > cut.least, is_equal = valid && key == cut.least;
    const std::uint32_t greater = ballot(is_greater), equal = ballot(is_equal);
    const std::uint32_t lower = (1u << thread_x() % kWarpSize) - 1u;
    const Tally<Count> own{before.greater + count_bits(greater & lower), before.equal + count_bits(equal & lower)};
    at = own.taken(cut.ties);
    before.greater += count_bits(greater);
    before.equal += count_bits(equal);
    return is_greater || (is_equal && own.equal < cut.ties);
}

// The keys that share their upper digits with the wanted-th largest.
template <class Key, class Count>
struct Search {
    Key prefix, mask;  // (key & mask) == prefix
    Count wanted;      // which of them, from the largest one, counting from 1
};

// The digit at `index`, from the highest one: where it lies, and the number of its last bin. Bins go from the largest digit down.
template <int kBits>
struct Digit {
    static constexpr int kCount = digits_of_key(kBits);
    int shift, last;
    SC_DEVICE explicit Digit(int index)
        : shift(kBits - kDigitBits * (index + 1) > 0 ? kBits - kDigitBits * (index + 1) : 0),
          last((1 << (kBits - kDigitBits * index - shift)) - 1) {}
    template <class Key>
    SC_DEVICE int bin(Key key) const {
        return last - static_cast<int>(key >> shift & static_cast<Key>(last));
    }
    // The keys of a search that lie in this bin; `above` of the search's lie in the bins before it.
    template <class Key, class Count>
    SC_DEVICE Search<Key, Count> narrow(const Search<Key, Count>& search, int bin, Count above) const {
        return {search.prefix | static_cast<Key>(last - bin) << shift, search.mask | static_cast<Key>(last) << shift,
                search.wanted - above};
    }
};

// The bin in which the sum of the counts reaches what is wanted, and the sum in front of it.
template <class Count>
struct FoundBin {
    Count warp_sums[32];
    Count above, inside;
    int bin;
};

SC_DEVICE std::uint32_t sum_of_lanes(std::uint32_t own) { return reduce_add(own); }
SC_DEVICE std::uint64_t sum_of_lanes(std::uint64_t own) {
SC_UNROLL
    for (int step = kWarpSize / 2; step > 0; step /= 2) own += shuffle_xor(own, step);
    return own;
}

template <class Count>
struct ThreadSum {
    Count before, all;  // of the threads below, and of all
};

// Adds a number of each thread of the block up, with one barrier: `warp_sums` may be used again behind another one.
template <int kThreads, class Count>
SC_DEVICE ThreadSum<Count> sum_of_threads(Count own, Count (&warp_sums)[32]) {
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
    Count through = own;
SC_UNROLL
    for (int step = 1; step < kWarpSize; step *= 2) {
        const Count below = shuffle_up(through, static_cast<unsigned>(step));
        if (lane >= step) through += below;
    }
    if (lane == kWarpSize - 1) warp_sums[warp] = through;
    block_barrier();
    const Count of_lane = lane < kThreads / kWarpSize ? warp_sums[lane] : 0;
    return {through - own + sum_of_lanes(lane < warp ? of_lane : 0), sum_of_lanes(of_lane)};
}

// Searches the block's histogram for the bin of the wanted-th, 1 <= wanted <= the sum of all. The histogram must be complete for
// all threads, `found` is: the caller has a barrier before, and here there is one at the end.
template <int kThreads, class Count>
SC_DEVICE void find_bin(const Count (&histogram)[kBins], Count wanted, FoundBin<Count>& found) {
    constexpr int kOwn = kBins / kThreads;
    static_assert(kOwn * kThreads == kBins);
    const int first = static_cast<int>(thread_x()) * kOwn;
    Count own = 0;
    for (int i = 0; i < kOwn; ++i) own += histogram[first + i];
    Count above = sum_of_threads<kThreads>(own, found.warp_sums).before;
    if (above < wanted && wanted <= above + own) {  // true of one thread
        int bin = first;
        for (; above + histogram[bin] < wanted; ++bin) above += histogram[bin];
        found.above = above;
        found.inside = histogram[bin];
        found.bin = bin;
    }
    block_barrier();
}

}  // namespace sparsecore::cuda
