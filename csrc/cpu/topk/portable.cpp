#include "cpu/topk/kernels.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

void make_digits(DType dtype, const void* x, int64_t n, int16_t* digits) {
    if (dtype == DType::F32) {
        const auto* bits = static_cast<const uint32_t*>(x);
        for (int64_t i = 0; i < n; ++i) digits[i] = high_digit(key_of_f32(bits[i]));
    } else {
        const auto* bits = static_cast<const uint16_t*>(x);
        const uint16_t infinity = infinity_bits(dtype);
        for (int64_t i = 0; i < n; ++i) digits[i] = digit_of_half(bits[i], infinity);
    }
}

int64_t count_at_least(const int16_t* digits, int64_t n, int16_t least) {
    constexpr int64_t kBlock = 8192;  // what a 16-bit counter holds: compilers then count in vectors of them
    int64_t total = 0;
    for (int64_t begin = 0; begin < n; begin += kBlock) {
        const int64_t end = begin + kBlock < n ? begin + kBlock : n;
        int16_t count = 0;
        for (int64_t i = begin; i < end; ++i) count = static_cast<int16_t>(count + (digits[i] >= least));
        total += count;
    }
    return total;
}

int64_t between(const int16_t* digits, int64_t n, int16_t low, int16_t high, int16_t* out) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
        // Written in any case, kept only if inside: no branch to mispredict.
        out[count] = digits[i];
        count += digits[i] >= low && digits[i] <= high;
    }
    return count;
}

int64_t low_digits(const uint32_t* x, const int16_t* digits, int64_t n, int16_t high, int16_t* low) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
        if (digits[i] == high) low[count++] = low_digit(key_of_f32(x[i]));
    }
    return count;
}

template <class T, bool kWide>
int64_t collect_of(const T* x, const int16_t* digits, int64_t n, int32_t least, T* values, uint16_t* positions) {
    const int16_t high = high_digit(least);
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
        bool take = digits[i] >= high;
        if constexpr (kWide) take = digits[i] > high || (take && key_of_f32(x[i]) >= least);
        values[count] = x[i];
        positions[count] = static_cast<uint16_t>(i);
        count += take;
    }
    return count;
}

int64_t collect(DType dtype, const void* x, const int16_t* digits, int64_t n, int32_t least, void* values,
                uint16_t* positions) {
    if (dtype == DType::F32) {
        return collect_of<uint32_t, true>(static_cast<const uint32_t*>(x), digits, n, least,
                                          static_cast<uint32_t*>(values), positions);
    }
    return collect_of<uint16_t, false>(static_cast<const uint16_t*>(x), digits, n, least,
                                       static_cast<uint16_t*>(values), positions);
}

void widen(const uint16_t* positions, int64_t n, int64_t base, int64_t* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = positions[i] + base;
}

}  // namespace

TopkKernels topk_portable() { return {make_digits, count_at_least, between, low_digits, collect, widen}; }

}  // namespace sparsecore::cpu
