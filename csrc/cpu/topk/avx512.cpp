// The k-th largest is found by bisection over the key range, one counting pass a step. Long rows first bracket it: the
// ranks around k in a regular sample give two keys; one pass counts what lies above and keeps only what lies between.
// A bracket that misses costs a bisection over the whole row; the result never depends on the sample.
#include "cpu/topk/kernels.h"
#include "cpu/common/avx512.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

template <DType kType>
void keys_of(const void* x, int64_t n, int32_t* keys) {
    const __m512i magnitude_mask = _mm512_set1_epi32(0x7fffffff);
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 mask = lanes16(n - i);
        const __m512i bits = _mm512_castps_si512(load_ps<kType>(x, i, mask));
        const __m512i magnitude = _mm512_and_si512(bits, magnitude_mask);
        const __mmask16 negative = _mm512_movepi32_mask(bits);
        __m512i key = _mm512_mask_xor_epi32(bits, negative, bits, magnitude_mask);
        key = _mm512_mask_mov_epi32(key, _mm512_testn_epi32_mask(magnitude, magnitude), _mm512_setzero_si512());
        key = _mm512_mask_mov_epi32(key, _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000)),
                                    _mm512_set1_epi32(kNanKey));
        _mm512_mask_storeu_epi32(keys + i, mask, key);
    }
}

void make_keys(DType dtype, const void* x, int64_t n, int32_t* keys) {
    switch (dtype) {
        case DType::F32: keys_of<DType::F32>(x, n, keys); return;
        case DType::F16: keys_of<DType::F16>(x, n, keys); return;
        default: keys_of<DType::BF16>(x, n, keys); return;
    }
}

int64_t count_at_least(const int32_t* keys, int64_t n, int32_t pivot) {
    const __m512i p = _mm512_set1_epi32(pivot);
    int64_t even = 0, odd = 0, i = 0;
    for (; i + 32 <= n; i += 32) {
        even += _mm_popcnt_u32(_mm512_cmpge_epi32_mask(_mm512_loadu_si512(keys + i), p));
        odd += _mm_popcnt_u32(_mm512_cmpge_epi32_mask(_mm512_loadu_si512(keys + i + 16), p));
    }
    for (; i < n; i += 16) {
        const __mmask16 mask = lanes16(n - i);
        even += _mm_popcnt_u32(_mm512_mask_cmpge_epi32_mask(mask, _mm512_maskz_loadu_epi32(mask, keys + i), p));
    }
    return even + odd;
}

struct Range {
    int32_t low, high;
};

// Smallest and largest of the keys that are at least `floor`.
Range range_at_least(const int32_t* keys, int64_t n, int32_t floor) {
    const __m512i p = _mm512_set1_epi32(floor);
    __m512i low = _mm512_set1_epi32(INT32_MAX), high = _mm512_set1_epi32(INT32_MIN);
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 mask = lanes16(n - i);
        const __m512i key = _mm512_maskz_loadu_epi32(mask, keys + i);
        const __mmask16 in = _mm512_mask_cmpge_epi32_mask(mask, key, p);
        low = _mm512_mask_min_epi32(low, in, low, key);
        high = _mm512_mask_max_epi32(high, in, high, key);
    }
    return {_mm512_reduce_min_epi32(low), _mm512_reduce_max_epi32(high)};
}

int32_t bisect(const int32_t* keys, int64_t n, int64_t k) {
    const Range range = range_at_least(keys, n, INT32_MIN);
    int64_t low = range.low, high = range.high;  // the answer is in [low, high]
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        const int64_t count = count_at_least(keys, n, static_cast<int32_t>(middle));
        if (count == k) return range_at_least(keys, n, static_cast<int32_t>(middle)).low;
        if (count > k) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return static_cast<int32_t>(low);
}

constexpr int64_t kSample = 1024, kShort = 4 * kSample;

// Two keys that the k-th largest very probably lies between; `sample`: kSample keys.
Range bracket(const int32_t* keys, int64_t n, int64_t k, int32_t* sample) {
    const int64_t step = n / kSample;
    for (int64_t i = 0; i < kSample; ++i) sample[i] = keys[i * step];
    const double share = static_cast<double>(k) / static_cast<double>(n);
    // Standard deviation of the rank of a quantile in the sample; 3 of them on either side.
    const double deviation = __builtin_sqrt(static_cast<double>(kSample) * share * (1.0 - share));
    const int64_t rank = static_cast<int64_t>(share * static_cast<double>(kSample));
    const int64_t margin = static_cast<int64_t>(3.0 * deviation) + 2;
    Range range{INT32_MIN, INT32_MAX};
    if (rank - margin >= 1) range.high = bisect(sample, kSample, rank - margin);
    if (rank + margin <= kSample) range.low = bisect(sample, kSample, rank + margin);
    return range;
}

int32_t find_kth(const int32_t* keys, int64_t n, int64_t k, int32_t* scratch) {
    if (n <= kShort) return bisect(keys, n, k);
    const Range range = bracket(keys, n, k, scratch);
    const __m512i low = _mm512_set1_epi32(range.low), high = _mm512_set1_epi32(range.high);
    int64_t above = 0, between = 0;
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 mask = lanes16(n - i);
        const __m512i key = _mm512_maskz_loadu_epi32(mask, keys + i);
        const __mmask16 over = _mm512_mask_cmpgt_epi32_mask(mask, key, high);
        const __mmask16 in = _mm512_mask_cmple_epi32_mask(_mm512_mask_cmpge_epi32_mask(mask, key, low), key, high);
        above += _mm_popcnt_u32(over);
        // Whole vectors are written (scratch has room for one more): faster than a compressing store.
        _mm512_storeu_si512(scratch + between, _mm512_maskz_compress_epi32(in, key));
        between += _mm_popcnt_u32(in);
    }
    if (above < k && k <= above + between) return bisect(scratch, between, k - above);
    return bisect(keys, n, k);
}

void emit_indices(const int32_t* keys, int64_t n, int64_t k, int32_t threshold, int64_t* indices) {
    const __m512i p = _mm512_set1_epi32(threshold);
    int64_t equal = threshold == INT32_MAX ? k : k - count_at_least(keys, n, threshold + 1);
    __m512i index = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i eight = _mm512_set1_epi64(8);
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 mask = lanes16(n - i);
        const __m512i key = _mm512_maskz_loadu_epi32(mask, keys + i);
        unsigned take = _mm512_mask_cmpgt_epi32_mask(mask, key, p);
        if (equal > 0) {
            const unsigned ties = _mm512_mask_cmpeq_epi32_mask(mask, key, p);
            const unsigned taken = equal >= 16 ? ties : _pdep_u32((1u << equal) - 1u, ties);
            equal -= _mm_popcnt_u32(taken);
            take |= taken;
        }
        for (int half = 0; half < 2; ++half) {
            const auto lanes = static_cast<__mmask8>(take >> (8 * half));
            const int count = static_cast<int>(_mm_popcnt_u32(lanes));
            _mm512_mask_storeu_epi64(indices, static_cast<__mmask8>((1u << count) - 1u),
                                     _mm512_maskz_compress_epi64(lanes, index));
            indices += count;
            index = _mm512_add_epi64(index, eight);
        }
    }
}

}  // namespace

TopkKernels topk_avx512() { return {make_keys, find_kth, emit_indices}; }

}  // namespace sparsecore::cpu
