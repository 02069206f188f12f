// Where the k-th largest of a row lies. The search bisects over digits, one counting pass a step: 16 steps settle a
// digit whatever the data, and a vector counts 32 elements at a time.
#pragma once

#include "core/buffer.h"
#include "cpu/topk/kernels.h"

namespace sparsecore::cpu {

struct Kth {
    int32_t key = 0;
    int64_t above = 0;  // elements with a larger key: fewer than k
    int64_t ties = 0;   // elements with this key
};

// The digit of the k-th largest, with the numbers of larger and of equal digits.
struct DigitPlace {
    int16_t digit = 0;
    int64_t above = 0, ties = 0;
};

constexpr int64_t kSample = 1024;
constexpr int64_t kSampledRow = 8 * kSample;  // from here on a sample saves more than it costs

// The ranks, in a regular sample of kSample of n elements, that the k-th largest of all very probably lies between:
// three standard deviations from its own. Outside of 1 ... kSample a sample says nothing.
struct SampleRanks {
    int64_t larger, smaller;  // of a larger and of a smaller element
};
SampleRanks sample_ranks(int64_t n, int64_t k);

// `scratch` is for long rows.
DigitPlace find_digit(const TopkKernels& kernels, const int16_t* digits, int64_t n, int64_t k,
                      core::AlignedBuffer& scratch);

// Kept by the caller so that a row does not allocate; each grows to 2 n bytes at most.
struct SearchScratch {
    core::AlignedBuffer narrowed, low_digits;
};

// The k-th largest, 1 <= k <= n, of a row whose digits are known.
Kth find_kth(const TopkKernels& kernels, core::DType dtype, const void* x, const int16_t* digits, int64_t n, int64_t k,
             SearchScratch& scratch);

// How many elements have this key.
int64_t count_ties(const TopkKernels& kernels, core::DType dtype, const void* x, const int16_t* digits, int64_t n,
                   int32_t key, core::AlignedBuffer& scratch);

// Counts of the elements with each digit, for rows too long to keep their digits.
class DigitHistogram {
public:
    DigitHistogram();
    void clear();
    void add(int16_t digit) { ++counts_.as<int64_t>()[digit - INT16_MIN]; }
    DigitPlace find(int64_t k) const;  // 1 <= k <= the number of elements added

private:
    static constexpr int64_t kDigits = 65536;
    core::AlignedBuffer counts_;
};

}  // namespace sparsecore::cpu
