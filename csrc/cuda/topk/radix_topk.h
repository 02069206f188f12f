// Top-k of any row with any k, for those whose k largest fit no block's shared memory.
//
// Floor: x is read once for every digit of 11 bits (fp32: 3 times, 16 bits: 2, int64: 6), once to count and once to write.
// Each launch is over chunks of rows: radix_count adds the histogram of a digit up (sums of integers: in any order the same)
// for the keys that share the digits so far, which every block of the next launch reads off the sums for itself;
// radix_tally counts what each warp's segment of a chunk will take; radix_write, which knows by that where each segment
// writes, takes the elements.
#pragma once

#include "cuda/topk/cut.h"
#include "cuda/topk/output.h"

namespace sparsecore::cuda {

using RadixSearch = Search<std::uint64_t, std::uint64_t>;

struct RadixArgs {
    TopkArgs rows;
    std::int64_t chunks, chunk_length;  // of a row; the length is a multiple of kRadixThreads
    std::int64_t digits;                // of a key
    std::uint64_t* histograms;          // [rows, digits, kBins], cleared by radix_clear
    RadixSearch* searches;              // [rows, digits]: behind each digit
    Tally<std::uint32_t>* tallies;      // [rows, chunks * kRadixWarps]
};

static_assert(sizeof(RadixSearch) == kSearchBytes && sizeof(Tally<std::uint32_t>) == kTallyBytes);

struct RadixShared {
    std::uint64_t sums[kBins];
    std::uint32_t histogram[kBins];
    FoundBin<std::uint64_t> found;
    Tally<std::uint64_t> warp_tallies[kRadixWarps];
};

// The search behind `digits` digits. That before the last of them was written by the launch before; the chunk that starts the row
// writes this one.
template <int kBits>
SC_DEVICE RadixSearch search_behind(const RadixArgs& r, std::int64_t row, std::int64_t k, int digits, bool first_chunk,
                                    RadixShared& shared) {
    RadixSearch search{0, 0, static_cast<std::uint64_t>(k)};
    if (digits == 0) return search;
    const std::int64_t place = row * r.digits + digits - 1;
    if (digits > 1) search = r.searches[place - 1];
    for (auto bin = thread_x(); bin < kBins; bin += kRadixThreads) shared.sums[bin] = r.histograms[place * kBins + bin];
    block_barrier();
    find_bin<kRadixThreads>(shared.sums, search.wanted, shared.found);
    search = Digit<kBits>(digits - 1).narrow(search, shared.found.bin, shared.found.above);
    if (first_chunk && thread_x() == 0) r.searches[place] = search;
    return search;
}

// Calls body(key, valid, index) for the warp's segment of a chunk, 32 consecutive elements at a time.
template <class T, class Body>
SC_DEVICE void for_segment(const RadixArgs& r, std::int64_t row, std::int64_t chunk, std::int64_t n, Body&& body) {
    const std::int64_t length = r.chunk_length / kRadixWarps, lane = thread_x() % kWarpSize;
    const std::int64_t begin = chunk * r.chunk_length + thread_x() / kWarpSize * length;
    const std::int64_t end = begin + length < n ? begin + length : n;
    const T* x = row_start<T>(r.rows, row);
SC_UNROLL
    for (std::int64_t first = begin; first < end; first += kWarpSize) {
        const std::int64_t index = first + lane;
        const bool valid = index < end;
        body(valid ? Order<T>::key(x[index]) : 0, valid, index);
    }
}

template <class T>
SC_GLOBAL void radix_clear(RadixArgs r) {
    const std::int64_t threads = static_cast<std::int64_t>(grid_dim_x()) * kRadixThreads;
    const std::int64_t first = static_cast<std::int64_t>(block_x()) * kRadixThreads + thread_x();
    for (std::int64_t i = first; i < r.rows.rows * Digit<Order<T>::kBits>::kCount * kBins; i += threads) r.histograms[i] = 0;
}

// Grid of this and the following: any number of blocks of kRadixThreads, which loop over rows * chunks.
template <class T>
SC_GLOBAL void SC_BOUNDS(kRadixThreads, 4) radix_count(RadixArgs r, int index) {
    auto& shared = shared_memory<RadixShared>();
    using Key = typename Order<T>::Key;
    const Digit<Order<T>::kBits> digit(index);
    for (std::int64_t i = block_x(); i < r.rows.rows * r.chunks; i += grid_dim_x()) {
        const std::int64_t row = i / r.chunks, chunk = i % r.chunks;
        const RowSizes sizes = row_sizes(r.rows, row);
        if (sizes.k == 0) continue;
        const auto search = search_behind<Order<T>::kBits>(r, row, sizes.k, index, chunk == 0, shared);
        const auto mask = static_cast<Key>(search.mask), prefix = static_cast<Key>(search.prefix);
        for (auto bin = thread_x(); bin < kBins; bin += kRadixThreads) shared.histogram[bin] = 0;
        block_barrier();
        for_segment<T>(r, row, chunk, sizes.n, [&](Key key, bool valid, std::int64_t) {
            if (valid && (key & mask) == prefix) atomic_add(&shared.histogram[digit.bin(key)], 1u);
        });
        block_barrier();
        std::uint64_t* sums = r.histograms + (row * r.digits + index) * kBins;
        for (auto bin = thread_x(); bin < kBins; bin += kRadixThreads) {
            if (shared.histogram[bin] != 0) atomic_add(&sums[bin], std::uint64_t{shared.histogram[bin]});
        }
        block_barrier();  // before the shared memory is used again
    }
}

template <class T>
SC_GLOBAL void SC_BOUNDS(kRadixThreads, 4) radix_tally(RadixArgs r) {
    auto& shared = shared_memory<RadixShared>();
    using Key = typename Order<T>::Key;
    for (std::int64_t i = block_x(); i < r.rows.rows * r.chunks; i += grid_dim_x()) {
        const std::int64_t row = i / r.chunks, chunk = i % r.chunks;
        const RowSizes sizes = row_sizes(r.rows, row);
        if (sizes.k == 0) continue;
        const auto search = search_behind<Order<T>::kBits>(r, row, sizes.k, Digit<Order<T>::kBits>::kCount, chunk == 0, shared);
        const auto least = static_cast<Key>(search.prefix);
        if (r.rows.threshold != nullptr) {
            if (chunk == 0 && thread_x() == 0) write_threshold<T>(r.rows, row, least);
        } else {
            Tally<std::uint32_t> own{0, 0};
            for_segment<T>(r, row, chunk, sizes.n, [&](Key key, bool valid, std::int64_t) {
                own.greater += count_bits(ballot(valid && key > least));
                own.equal += count_bits(ballot(valid && key == least));
            });
            if (thread_x() % kWarpSize == 0) r.tallies[i * kRadixWarps + thread_x() / kWarpSize] = own;
        }
        block_barrier();  // before the shared memory is used again
    }
}

// The elements in front of the warp's segment. Ends with a barrier.
SC_DEVICE Tally<std::uint64_t> tally_before(const RadixArgs& r, std::int64_t row, std::int64_t chunk, RadixShared& shared) {
    const Tally<std::uint32_t>* tallies = r.tallies + row * r.chunks * kRadixWarps;
    const int warp = static_cast<int>(thread_x() / kWarpSize), lane = static_cast<int>(thread_x() % kWarpSize);
    Tally<std::uint64_t> sum{0, 0};
SC_ROLLED
    for (std::int64_t i = thread_x(); i < chunk * kRadixWarps; i += kRadixThreads) {
        sum.greater += tallies[i].greater;
        sum.equal += tallies[i].equal;
    }
    sum = {sum_of_lanes(sum.greater), sum_of_lanes(sum.equal)};
    if (lane == 0) shared.warp_tallies[warp] = sum;
    block_barrier();
    sum = lane < kRadixWarps ? shared.warp_tallies[lane] : Tally<std::uint64_t>{0, 0};
    if (lane < warp) {
        sum.greater += tallies[chunk * kRadixWarps + lane].greater;
        sum.equal += tallies[chunk * kRadixWarps + lane].equal;
    }
    sum = {sum_of_lanes(sum.greater), sum_of_lanes(sum.equal)};
    block_barrier();
    return sum;
}

template <class T>
SC_GLOBAL void SC_BOUNDS(kRadixThreads, 4) radix_write(RadixArgs r) {
    auto& shared = shared_memory<RadixShared>();
    using Key = typename Order<T>::Key;
    for (std::int64_t i = block_x(); i < r.rows.rows * r.chunks; i += grid_dim_x()) {
        const std::int64_t row = i / r.chunks, chunk = i % r.chunks;
        const RowSizes sizes = row_sizes(r.rows, row);
        if (chunk == 0) write_padding(r.rows, row, sizes.k, static_cast<int>(thread_x()), kRadixThreads);
        if (sizes.k == 0) continue;
        const RadixSearch search = r.searches[row * r.digits + r.digits - 1];
        const Cut<Key, std::uint64_t> cut{static_cast<Key>(search.prefix), search.wanted};
        auto before = tally_before(r, row, chunk, shared);
        for_segment<T>(r, row, chunk, sizes.n, [&](Key key, bool valid, std::int64_t index) {
            std::uint64_t at;
            if (place(cut, key, valid, before, at)) write_taken<T>(r.rows, row, static_cast<std::int64_t>(at), index);
        });
    }
}

}  // namespace sparsecore::cuda
