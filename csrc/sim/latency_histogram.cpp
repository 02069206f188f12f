#include "sim/latency_histogram.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"

namespace sparsecore::sim {

namespace {

constexpr int kStepBits = 10;   // 2^10 buckets per power of two
constexpr int kExactBits = 12;  // kExact = 2^12

}  // namespace

// A value of [2^e, 2^(e + 1)), e >= 12, goes to the bucket of its leading 11 bits.
size_t LatencyHistogram::bucket(int64_t value) {
    if (value < kExact) return static_cast<size_t>(value);
    const int exponent = 63 - __builtin_clzll(static_cast<uint64_t>(value));
    const int64_t step = (value >> (exponent - kStepBits)) - (int64_t{1} << kStepBits);
    return static_cast<size_t>(kExact + (static_cast<int64_t>(exponent - kExactBits) << kStepBits) + step);
}

int64_t LatencyHistogram::middle(size_t bucket) {
    const int64_t above = static_cast<int64_t>(bucket) - kExact;
    if (above < 0) return static_cast<int64_t>(bucket);
    const int shift = static_cast<int>(above >> kStepBits) + kExactBits - kStepBits;
    const int64_t leading = (int64_t{1} << kStepBits) + (above & ((int64_t{1} << kStepBits) - 1));
    return (leading << shift) + (int64_t{1} << (shift - 1));
}

void LatencyHistogram::add(int64_t value, int64_t times) {
    if (value < 0 || times < 0) {
        throw core::Error("InvalidValueError",
                          "a latency of " + std::to_string(value) + ", " + std::to_string(times) + " times");
    }
    if (times == 0) return;
    const size_t index = bucket(value);
    if (index >= counts_.size()) counts_.resize(index + 1);
    counts_[index] += times;
    min_ = count_ == 0 ? value : std::min(min_, value);
    max_ = std::max(max_, value);
    count_ += times;
    sum_ += static_cast<unsigned __int128>(value) * static_cast<unsigned __int128>(times);
}

void LatencyHistogram::merge(const LatencyHistogram& other, int64_t times) {
    if (times < 0) throw core::Error("InvalidValueError", "latencies " + std::to_string(times) + " times");
    if (other.count_ == 0 || times == 0) return;
    if (other.counts_.size() > counts_.size()) counts_.resize(other.counts_.size());
    for (size_t i = 0; i < other.counts_.size(); ++i) counts_[i] += times * other.counts_[i];
    min_ = count_ == 0 ? other.min_ : std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
    count_ += times * other.count_;
    sum_ += static_cast<unsigned __int128>(times) * other.sum_;
}

double LatencyHistogram::mean() const {
    if (count_ == 0) return 0;
    const auto count = static_cast<unsigned __int128>(count_);
    return static_cast<double>(sum_ / count) + static_cast<double>(sum_ % count) / static_cast<double>(count_);
}

int64_t LatencyHistogram::quantile(double q) const {
    if (!(q >= 0 && q <= 1)) throw core::Error("InvalidValueError", "quantile " + std::to_string(q), "", "0 to 1");
    if (count_ == 0) return 0;
    const double place = q * static_cast<double>(count_);
    const int64_t rank = std::clamp(static_cast<int64_t>(std::ceil(place - place * 5e-16)), int64_t{1}, count_);
    int64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
        seen += counts_[i];
        if (seen >= rank) return std::clamp(middle(i), min_, max_);
    }
    return max_;
}

}  // namespace sparsecore::sim
