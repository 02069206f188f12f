// Importance scores in integers (sparsecore/backends/reference/scores.py): units of 2^-kScoreBits. Static functions only:
// kernel files of every instruction set include it.
#pragma once

#include <cstdint>

namespace sparsecore::cpu {

constexpr int kScoreBits = 20;
constexpr float kScoreOne = 1 << kScoreBits;
constexpr int32_t kLargestOutput = INT32_MAX;  // an element of an output counts no more than this
// As many probabilities as fit into a sum of 32 bits.
constexpr int64_t kCountedRows = (int64_t{1} << (31 - kScoreBits)) - 1;

// How many of its `seen` keys' values a query multiplies.
static inline int64_t value_count(double keep, int64_t seen) {
    const auto count = static_cast<int64_t>(static_cast<double>(seen) * keep + 1e-9);
    return seen == 0 || count >= seen ? seen : count < 1 ? 1 : count;
}

}  // namespace sparsecore::cpu
