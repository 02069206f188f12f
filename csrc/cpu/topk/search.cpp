#include "cpu/topk/search.h"

#include <cmath>
#include <cstring>

namespace sparsecore::cpu {

namespace {

// Bisection for the digit of the k-th largest.
class DigitSearch {
public:
    DigitSearch(const TopkKernels& kernels, const int16_t* digits, int64_t n, int64_t k)
        : kernels_(kernels), digits_(digits), n_(n), k_(k), at_low_(n) {}

    // Halves what is left at `digit`; outside of it does nothing.
    void probe(int64_t digit) {
        if (digit <= low_ || digit > high_) return;
        const int64_t count = kernels_.count(digits_, n_, static_cast<int16_t>(digit));
        if (count >= k_) {
            low_ = digit;
            at_low_ = count;
        } else {
            high_ = digit - 1;
            over_high_ = count;
        }
    }

    // Goes on with the digits that are left, copied to `scratch`, if there are few.
    void narrow(core::AlignedBuffer& scratch) {
        const int64_t left = at_low_ - over_high_;
        if (low_ == high_ || left > n_ / 2) return;
        scratch.reserve((left + kTopkPadding) * 2);
        auto* kept = scratch.as<int16_t>();
        n_ = kernels_.between(digits_, n_, static_cast<int16_t>(low_), static_cast<int16_t>(high_), kept);
        digits_ = kept;
        above_ = over_high_;
        k_ -= above_;
        at_low_ = n_;
        over_high_ = 0;
    }

    DigitPlace finish() {
        while (low_ < high_) probe(low_ + (high_ - low_ + 1) / 2);
        return {static_cast<int16_t>(low_), above_ + over_high_, at_low_ - over_high_};
    }

private:
    const TopkKernels& kernels_;
    const int16_t* digits_;
    int64_t n_, k_;
    int64_t low_ = INT16_MIN, high_ = INT16_MAX;  // the answer is in [low, high]
    int64_t at_low_, over_high_ = 0;              // how many of `digits_` are at least low, and above high
    int64_t above_ = 0;                           // how many larger ones were left behind
};

// Probes the two digits that the answer very probably lies between. A sample that misleads costs two passes and changes
// nothing else.
void probe_by_sample(const TopkKernels& kernels, const int16_t* digits, int64_t n, int64_t k, DigitSearch& search,
                     core::AlignedBuffer& scratch) {
    int16_t sample[kSample];
    const int64_t step = n / kSample;
    for (int64_t i = 0; i < kSample; ++i) sample[i] = digits[i * step];
    const SampleRanks ranks = sample_ranks(n, k);
    if (ranks.smaller <= kSample) search.probe(find_digit(kernels, sample, kSample, ranks.smaller, scratch).digit);
    if (ranks.larger >= 1) search.probe(find_digit(kernels, sample, kSample, ranks.larger, scratch).digit + 1);
}

}  // namespace

SampleRanks sample_ranks(int64_t n, int64_t k) {
    const double share = static_cast<double>(k) / static_cast<double>(n);
    // Standard deviation of the rank of a quantile in the sample.
    const double deviation = std::sqrt(static_cast<double>(kSample) * share * (1.0 - share));
    const auto rank = static_cast<int64_t>(share * static_cast<double>(kSample));
    const int64_t margin = static_cast<int64_t>(3.0 * deviation) + 2;
    return {rank - margin, rank + margin};
}

DigitPlace find_digit(const TopkKernels& kernels, const int16_t* digits, int64_t n, int64_t k,
                      core::AlignedBuffer& scratch) {
    if (n == 1) return {digits[0], 0, 1};
    DigitSearch search(kernels, digits, n, k);
    if (n >= kSampledRow) {
        probe_by_sample(kernels, digits, n, k, search, scratch);
        search.narrow(scratch);
    }
    return search.finish();
}

Kth find_kth(const TopkKernels& kernels, core::DType dtype, const void* x, const int16_t* digits, int64_t n, int64_t k,
             SearchScratch& scratch) {
    const DigitPlace high = find_digit(kernels, digits, n, k, scratch.narrowed);
    if (dtype != core::DType::F32) return {high.digit * 65536, high.above, high.ties};
    scratch.low_digits.reserve((high.ties + kTopkPadding) * 2);
    auto* low = scratch.low_digits.as<int16_t>();
    kernels.low_digits(static_cast<const uint32_t*>(x), digits, n, high.digit, low);
    const DigitPlace place = find_digit(kernels, low, high.ties, k - high.above, scratch.narrowed);
    return {join_digits(high.digit, place.digit), high.above + place.above, place.ties};
}

int64_t count_ties(const TopkKernels& kernels, core::DType dtype, const void* x, const int16_t* digits, int64_t n,
                   int32_t key, core::AlignedBuffer& scratch) {
    int16_t digit = high_digit(key);
    if (dtype == core::DType::F32) {
        scratch.reserve((n + kTopkPadding) * 2);
        auto* low = scratch.as<int16_t>();
        n = kernels.low_digits(static_cast<const uint32_t*>(x), digits, n, digit, low);
        digits = low;
        digit = low_digit(key);
    }
    const int64_t larger = digit == INT16_MAX ? 0 : kernels.count(digits, n, static_cast<int16_t>(digit + 1));
    return kernels.count(digits, n, digit) - larger;
}

DigitHistogram::DigitHistogram() : counts_(kDigits * static_cast<int64_t>(sizeof(int64_t))) { clear(); }

void DigitHistogram::clear() { std::memset(counts_.as<void>(), 0, static_cast<size_t>(counts_.bytes())); }

DigitPlace DigitHistogram::find(int64_t k) const {
    const auto* counts = counts_.as<const int64_t>();
    int64_t digit = kDigits - 1, above = 0;
    while (above + counts[digit] < k) above += counts[digit--];
    return {static_cast<int16_t>(digit + INT16_MIN), above, counts[digit]};
}

}  // namespace sparsecore::cpu
