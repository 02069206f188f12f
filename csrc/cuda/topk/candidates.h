// Candidates of a row in a block's shared memory, in any order, and the selection among them.
//
// A candidate beats another one by its key, and where the keys are equal by the lower position: no two are equal, so the taken
// set depends on no order of execution. It is found digit by digit: a histogram of the candidates that share the digits so
// far, and the bin in which the count reaches k. That ends early when the candidates up to a bin are few enough.
#pragma once

#include "cuda/topk/cut.h"

namespace sparsecore::cuda {

template <class KeyType, int kBlockThreads>
struct Candidates {
    using Key = KeyType;
    static constexpr int kThreads = kBlockThreads, kCapacity = kThreads * candidate_items(sizeof(Key));
    static constexpr int kTile = kThreads * kTileItems;
    static constexpr int kMostWanted = kCapacity - kTile;  // a tile more must fit

    union {
        Key key[kCapacity];
        std::uint32_t ordered[kCapacity];  // positions of the taken ones, when the keys are of no more use
    };
    std::uint32_t position[kCapacity];
    union {
        std::uint32_t histogram[kBins];
        std::uint32_t bits[kBins];  // one for each position of a window
    };
    FoundBin<std::uint32_t> found;
    std::uint32_t count;
};

// Takes the candidates with a key above `least`, and those with that key up to the position `last`: `kept` in all.
template <class Key>
struct PositionCut {
    Key least;
    std::uint32_t last, kept;

    SC_DEVICE bool takes(Key key, std::uint32_t position) const {
        return key > least || (key == least && position <= last);
    }
};

// Narrows the search by a digit of the numbers that number_of(i, number) gives for candidates, where it says so. Returns how many
// numbers the narrowed search holds. Begins and ends as find_bin.
template <int kBits, class Store, class Number, class NumberOf>
SC_DEVICE std::uint32_t narrow(Store& c, std::uint32_t count, int index, Search<Number, std::uint32_t>& search,
                               NumberOf&& number_of) {
    const Digit<kBits> digit(index);
    for (auto bin = thread_x(); bin < kBins; bin += Store::kThreads) c.histogram[bin] = 0;
    block_barrier();
SC_ROLLED
    for (auto i = thread_x(); i < count; i += Store::kThreads) {
        Number number;
        if (number_of(i, number) && (number & search.mask) == search.prefix) atomic_add(&c.histogram[digit.bin(number)], 1u);
    }
    block_barrier();
    find_bin<Store::kThreads>(c.histogram, search.wanted, c.found);
    search = digit.narrow(search, c.found.bin, c.found.above);
    return c.found.inside;
}

// A cut that keeps the k largest (1 <= k <= count), and perhaps some more up to `most`; where that is 0, `least` is the k-th key.
// The candidates are complete for all threads.
template <int kBits, class Store>
SC_DEVICE PositionCut<typename Store::Key> cut_candidates(Store& c, std::uint32_t count, std::uint32_t k, std::uint32_t most) {
    using Key = typename Store::Key;
    constexpr std::uint32_t kAnyPosition = ~std::uint32_t{0};
    Search<Key, std::uint32_t> search{0, 0, k};
SC_ROLLED
    for (int index = 0; index < Digit<kBits>::kCount; ++index) {
        const std::uint32_t inside = narrow<kBits>(c, count, index, search, [&](std::uint32_t i, Key& key) {
            key = c.key[i];
            return true;
        });
        const std::uint32_t kept = k - search.wanted + inside;
        if (kept <= most) return {search.prefix, kAnyPosition, kept};
    }
    if (most < k) return {search.prefix, kAnyPosition, k};
    // Of equal keys the lowest positions: the largest complements.
    Search<std::uint32_t, std::uint32_t> ties{0, 0, search.wanted};
SC_ROLLED
    for (int index = 0; index < Digit<32>::kCount; ++index) {
        narrow<32>(c, count, index, ties, [&](std::uint32_t i, std::uint32_t& number) {
            number = ~c.position[i];
            return c.key[i] == search.prefix;
        });
    }
    return {search.prefix, ~ties.prefix, k};
}

// Drops the candidates that the cut does not take. Begins where all threads agree on them, ends with a barrier.
template <class Store>
SC_DEVICE void keep_taken(Store& c, std::uint32_t count, const PositionCut<typename Store::Key>& cut) {
    constexpr int kItems = 2;
    const std::uint32_t lane = thread_x() % kWarpSize;
    if (thread_x() == 0) c.count = 0;
    for (std::uint32_t round = 0; round < count; round += Store::kThreads * kItems) {
        typename Store::Key key[kItems];
        std::uint32_t position[kItems];
        bool taken[kItems];
SC_UNROLL
        for (int i = 0; i < kItems; ++i) {
            const std::uint32_t at = round + i * Store::kThreads + thread_x();
            taken[i] = at < count;
            if (!taken[i]) continue;
            key[i] = c.key[at];
            position[i] = c.position[at];
            taken[i] = cut.takes(key[i], position[i]);
        }
        block_barrier();  // all of the round have been read: what is written now lies in front of its end
SC_UNROLL
        for (int i = 0; i < kItems; ++i) {
            const std::uint32_t all = ballot(taken[i]);
            std::uint32_t at = 0;
            if (lane == 0) at = atomic_add(&c.count, static_cast<std::uint32_t>(count_bits(all)));
            at = shuffle(at, 0) + count_bits(all & ((1u << lane) - 1u));
            if (!taken[i]) continue;
            c.key[at] = key[i];
            c.position[at] = position[i];
        }
    }
    block_barrier();
}

// Positions of the taken candidates into c.ordered, ascending, by a bitmap over 2^16 positions at a time; all are below n. Ends with
// a barrier. The keys are lost.
template <class Store>
SC_DEVICE void order_taken(Store& c, std::uint32_t count, PositionCut<typename Store::Key> cut, std::uint32_t n) {
    constexpr std::uint32_t kWindow = kBins * 32;
    if (n > kWindow) {
        keep_taken(c, count, cut);
        count = cut.kept;
        cut = {0, ~std::uint32_t{0}, count};  // the first window overwrites the keys: all are taken
    }
    std::uint32_t done = 0;
SC_ROLLED
    for (std::uint32_t window = 0; window < n; window += kWindow) {
        for (auto i = thread_x(); i < kBins; i += Store::kThreads) c.bits[i] = 0;
        block_barrier();
        for (auto i = thread_x(); i < count; i += Store::kThreads) {
            const std::uint32_t bit = c.position[i] - window;  // of an earlier window: a large number
            if (bit < kWindow && cut.takes(c.key[i], c.position[i])) atomic_or(&c.bits[bit / 32], 1u << bit % 32);
        }
        block_barrier();
        const std::uint32_t positions = n - window < kWindow ? n - window : kWindow;
        const std::uint32_t own = (positions + 32 * Store::kThreads - 1) / (32 * Store::kThreads);  // words of a thread
        const std::uint32_t first = thread_x() * own, end = first + own < kBins ? first + own : kBins;
        std::uint32_t ones = 0;
        for (auto word = first; word < end; ++word) ones += count_bits(c.bits[word]);
        const auto sum = sum_of_threads<Store::kThreads>(ones, c.found.warp_sums);
        std::uint32_t at = done + sum.before;
        for (auto word = first; word < end; ++word) {
            for (std::uint32_t left = c.bits[word]; left != 0; left &= left - 1) {
                c.ordered[at++] = window + word * 32 + lowest_bit(left);
            }
        }
        done += sum.all;
        block_barrier();
    }
}

}  // namespace sparsecore::cuda
