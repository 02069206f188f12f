// Counts of non-negative values in bounded memory: exact below 4096, 1024 buckets per power of two above.
//
// Memory: 8 bytes per bucket up to the largest value seen, and room for as many more: values up to 1 M ticks have 12 K
// buckets (96 KiB), all of int64 55 K (440 KiB).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sparsecore::sim {

class LatencyHistogram {
public:
    static constexpr int64_t kExact = 4096;

    // `times` values equal to `value`. "InvalidValueError": either is negative.
    void add(int64_t value, int64_t times = 1);
    // Adds all of `other`, `times` times over. "InvalidValueError": `times` is negative.
    void merge(const LatencyHistogram& other, int64_t times = 1);

    int64_t count() const { return count_; }
    double mean() const;  // of the exact sum; 0 when empty
    int64_t min() const { return count_ == 0 ? 0 : min_; }
    int64_t max() const { return max_; }  // 0 when empty

    // Nearest rank: the smallest value that at least ceil(q * count) values do not exceed (the first one for q = 0), 0
    // when empty. Exact below kExact, above it the middle of its bucket: off by at most 1/2048 of the value. How doubles
    // round q * count does not raise the rank: 0.07 of 100 values is the 7th. "InvalidValueError": q is not in 0 to 1.
    int64_t quantile(double q) const;

private:
    static size_t bucket(int64_t value);
    static int64_t middle(size_t bucket);

    std::vector<int64_t> counts_;
    int64_t count_ = 0, min_ = 0, max_ = 0;
    unsigned __int128 sum_ = 0;
};

}  // namespace sparsecore::sim
