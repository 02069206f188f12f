// The k largest of numbers that are computed or read again in every pass, by one block: digits from the highest on, each
// by a histogram in shared memory. Integer counts, so the order of additions does not matter.
#pragma once

#include "cuda/attention/decode/args.h"
#include "cuda/ptx/warp.h"

namespace sparsecore::cuda::decode {

constexpr int kSelectThreads = 512, kSelectWarps = kSelectThreads / kWarpSize;
constexpr int kBins = 2048, kBinsOfLane = kBins / kWarpSize;

struct SelectShared {
    std::uint32_t histogram[kBins];
    std::uint32_t counts[kSelectWarps];
    std::uint32_t digit, above;  // of the last search
    std::uint32_t ties_end;
};

// Finds the bin in which the `wanted`-th largest lies, and how many lie in the bins above it. By the first warp.
SC_DEVICE void find_bin(SelectShared& shared, std::uint32_t wanted) {
    const int lane = static_cast<int>(thread_x() % kWarpSize);
    const auto bin = [&](int i) { return kBins - 1 - (lane * kBinsOfLane + i); };  // lane 0 has the largest
    std::uint32_t own = 0;
    for (int i = 0; i < kBinsOfLane; ++i) own += shared.histogram[bin(i)];
    std::uint32_t up_to = own;
    for (int step = 1; step < kWarpSize; step *= 2) {
        const std::uint32_t before = shuffle_up(up_to, static_cast<unsigned>(step));
        if (lane >= step) up_to += before;
    }
    std::uint32_t above = up_to - own;
    if (above >= wanted || up_to < wanted) return;
    for (int i = 0; i < kBinsOfLane; ++i) {
        const std::uint32_t here = shared.histogram[bin(i)];
        if (above + here >= wanted) {
            shared.digit = static_cast<std::uint32_t>(bin(i));
            shared.above = above;
            return;
        }
        above += here;
    }
}

// The place behind the `ties`-th i < n with bits(i) == kth.
template <class Bits>
SC_DEVICE int end_of_ties(const Bits& bits, int n, std::uint32_t kth, std::uint32_t ties, SelectShared& shared) {
    const int thread = static_cast<int>(thread_x()), warp = thread / kWarpSize, lane = thread % kWarpSize;
    std::uint32_t seen = 0;
    for (int first = 0; seen < ties && first < n; first += kSelectThreads) {
        const bool tie = first + thread < n && bits(first + thread) == kth;
        const std::uint32_t votes = ballot(tie);
        if (lane == 0) shared.counts[warp] = static_cast<std::uint32_t>(count_bits(votes));
        block_barrier();
        std::uint32_t before = seen;
        for (int w = 0; w < kSelectWarps; ++w) {
            if (w < warp) before += shared.counts[w];
            seen += shared.counts[w];
        }
        before += static_cast<std::uint32_t>(count_bits(votes & ((1u << lane) - 1)));
        if (tie && before + 1 == ties) shared.ties_end = static_cast<std::uint32_t>(first + thread + 1);
        block_barrier();
    }
    return static_cast<int>(shared.ties_end);
}

// The k largest (0 < k <= n) of bits(i) < 2^31, equal ones by the lower i. By a whole block of kSelectThreads.
template <class Bits>
SC_DEVICE Cut select_largest(const Bits& bits, int n, int k, SelectShared& shared) {
    std::uint32_t prefix = 0, mask = 0, wanted = static_cast<std::uint32_t>(k), equal = 0;
    for (int pass = 0; pass < 3; ++pass) {
        for (int i = static_cast<int>(thread_x()); i < kBins; i += kSelectThreads) shared.histogram[i] = 0;
        block_barrier();
        const int shift = 20 - 10 * pass;
        const std::uint32_t digits = pass == 0 ? kBins - 1 : kBins / 2 - 1;
        for (int i = static_cast<int>(thread_x()); i < n; i += kSelectThreads) {
            const std::uint32_t value = bits(i);
            if ((value & mask) == prefix) atomic_add(&shared.histogram[(value >> shift) & digits], 1u);
        }
        block_barrier();
        if (thread_x() < kWarpSize) find_bin(shared, wanted);
        block_barrier();
        wanted -= shared.above;
        equal = shared.histogram[shared.digit];
        prefix |= shared.digit << shift;
        mask |= digits << shift;
        block_barrier();
    }
    const int ties_end = equal == wanted ? n : end_of_ties(bits, n, prefix, wanted, shared);
    return {prefix, ties_end, k};
}

}  // namespace sparsecore::cuda::decode
