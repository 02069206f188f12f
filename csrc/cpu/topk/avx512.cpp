#include <immintrin.h>

#include "cpu/topk/kernels.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

alignas(64) const uint16_t kLane[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                        16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

__mmask32 lanes32(int64_t count) { return count >= 32 ? ~0u : (1u << count) - 1u; }

// 16 of the 32 elements from x on; lanes outside the mask are zero and not read.
__m512i load_half(const uint32_t* x, __mmask32 lanes, int half) {
    return _mm512_maskz_loadu_epi32(static_cast<__mmask16>(lanes >> (16 * half)), x + 16 * half);
}

__m512i keys_of_f32(__m512i bits) {
    const __m512i negated = _mm512_sub_epi32(_mm512_set1_epi32(INT32_MIN), bits);
    const __m512i key = _mm512_mask_mov_epi32(bits, _mm512_movepi32_mask(bits), negated);
    const __m512 value = _mm512_castsi512_ps(bits);
    return _mm512_mask_mov_epi32(key, _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q), _mm512_set1_epi32(kNanKey));
}

__m512i digits_of_half(__m512i bits, __m512i infinity) {
    const __m512i negated = _mm512_sub_epi16(_mm512_set1_epi16(INT16_MIN), bits);
    const __m512i digit = _mm512_mask_mov_epi16(bits, _mm512_movepi16_mask(bits), negated);
    const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi16(INT16_MAX));
    return _mm512_mask_mov_epi16(digit, _mm512_cmpgt_epi16_mask(magnitude, infinity), _mm512_set1_epi16(INT16_MAX));
}

void make_digits(DType dtype, const void* x, int64_t n, int16_t* digits) {
    const __m512i upper_halves = _mm512_or_si512(_mm512_slli_epi16(_mm512_load_si512(kLane), 1), _mm512_set1_epi16(1));
    const __m512i infinity = _mm512_set1_epi16(static_cast<int16_t>(infinity_bits(dtype)));
    for (int64_t i = 0; i < n; i += 32) {
        const __mmask32 lanes = lanes32(n - i);
        __m512i digit;
        if (dtype == DType::F32) {
            const auto* bits = static_cast<const uint32_t*>(x) + i;
            digit = _mm512_permutex2var_epi16(keys_of_f32(load_half(bits, lanes, 0)), upper_halves,
                                              keys_of_f32(load_half(bits, lanes, 1)));
        } else {
            digit = digits_of_half(_mm512_maskz_loadu_epi16(lanes, static_cast<const uint16_t*>(x) + i), infinity);
        }
        _mm512_mask_storeu_epi16(digits + i, lanes, digit);
    }
}

int64_t count_at_least(const int16_t* digits, int64_t n, int16_t least) {
    const __m512i pivot = _mm512_set1_epi16(least);
    int64_t even = 0, odd = 0, i = 0;
    for (; i + 64 <= n; i += 64) {
        even += _mm_popcnt_u32(_mm512_cmpge_epi16_mask(_mm512_loadu_si512(digits + i), pivot));
        odd += _mm_popcnt_u32(_mm512_cmpge_epi16_mask(_mm512_loadu_si512(digits + i + 32), pivot));
    }
    for (; i < n; i += 32) {
        const __mmask32 lanes = lanes32(n - i);
        const __m512i digit = _mm512_maskz_loadu_epi16(lanes, digits + i);
        even += _mm_popcnt_u32(_mm512_mask_cmpge_epi16_mask(lanes, digit, pivot));
    }
    return even + odd;
}

int64_t between(const int16_t* digits, int64_t n, int16_t low, int16_t high, int16_t* out) {
    const __m512i least = _mm512_set1_epi16(low), most = _mm512_set1_epi16(high);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += 32) {
        const __mmask32 lanes = lanes32(n - i);
        const __m512i digit = _mm512_maskz_loadu_epi16(lanes, digits + i);
        const __mmask32 inside =
            _mm512_mask_cmple_epi16_mask(_mm512_mask_cmpge_epi16_mask(lanes, digit, least), digit, most);
        // Whole vectors are written: faster than a compressing store.
        _mm512_storeu_si512(out + count, _mm512_maskz_compress_epi16(inside, digit));
        count += _mm_popcnt_u32(inside);
    }
    return count;
}

int64_t low_digits(const uint32_t* x, const int16_t* digits, int64_t n, int16_t high, int16_t* low) {
    const __m512i pivot = _mm512_set1_epi16(high);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += 32) {
        const __mmask32 lanes = lanes32(n - i);
        const __m512i digit = _mm512_maskz_loadu_epi16(lanes, digits + i);
        const __mmask32 equal = _mm512_mask_cmpeq_epi16_mask(lanes, digit, pivot);
        if (equal == 0) continue;
        for (int half = 0; half < 2; ++half) {
            const __m256i keys = _mm512_cvtepi32_epi16(keys_of_f32(load_half(x + i, equal, half)));
            const auto taken = static_cast<__mmask16>(equal >> (16 * half));
            const __m256i found = _mm256_maskz_compress_epi16(taken, _mm256_xor_si256(keys, _mm256_set1_epi16(INT16_MIN)));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + count), found);
            count += _mm_popcnt_u32(taken);
        }
    }
    return count;
}

// Which of `lanes` hold a key of at least `least`.
__mmask32 refine(const uint32_t* x, __mmask32 lanes, __m512i least) {
    const __mmask32 first = _mm512_cmpge_epi32_mask(keys_of_f32(load_half(x, lanes, 0)), least);
    const __mmask32 second = _mm512_cmpge_epi32_mask(keys_of_f32(load_half(x, lanes, 1)), least);
    return (second << 16 | first) & lanes;
}

template <bool kWide>
int64_t collect_of(const void* x, const int16_t* digits, int64_t n, int32_t least, void* values, uint16_t* positions) {
    const __m512i high = _mm512_set1_epi16(high_digit(least)), key = _mm512_set1_epi32(least);
    const __m512i lane = _mm512_load_si512(kLane);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += 32) {
        const __mmask32 lanes = lanes32(n - i);
        const __m512i digit = _mm512_maskz_loadu_epi16(lanes, digits + i);
        __mmask32 take = _mm512_mask_cmpge_epi16_mask(lanes, digit, high);
        if constexpr (kWide) {
            const __mmask32 equal = _mm512_mask_cmpeq_epi16_mask(take, digit, high);
            if (equal != 0) take = (take & ~equal) | refine(static_cast<const uint32_t*>(x) + i, equal, key);
        }
        if (take == 0) continue;
        const __m512i place = _mm512_add_epi16(lane, _mm512_set1_epi16(static_cast<int16_t>(i)));
        _mm512_storeu_si512(positions + count, _mm512_maskz_compress_epi16(take, place));
        if constexpr (kWide) {
            auto* out = static_cast<uint32_t*>(values) + count;
            for (int half = 0; half < 2; ++half) {
                const auto taken = static_cast<__mmask16>(take >> (16 * half));
                const __m512i bits = load_half(static_cast<const uint32_t*>(x) + i, take, half);
                _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(taken, bits));
                out += _mm_popcnt_u32(taken);
            }
        } else {
            const __m512i bits = _mm512_maskz_loadu_epi16(take, static_cast<const uint16_t*>(x) + i);
            _mm512_storeu_si512(static_cast<uint16_t*>(values) + count, _mm512_maskz_compress_epi16(take, bits));
        }
        count += _mm_popcnt_u32(take);
    }
    return count;
}

int64_t collect(DType dtype, const void* x, const int16_t* digits, int64_t n, int32_t least, void* values,
                uint16_t* positions) {
    if (dtype == DType::F32) return collect_of<true>(x, digits, n, least, values, positions);
    return collect_of<false>(x, digits, n, least, values, positions);
}

void widen(const uint16_t* positions, int64_t n, int64_t base, int64_t* out) {
    const __m512i first = _mm512_set1_epi64(base);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(positions + i));
        _mm512_storeu_si512(out + i, _mm512_add_epi64(_mm512_cvtepu16_epi64(eight), first));
    }
    for (; i < n; ++i) out[i] = positions[i] + base;
}

}  // namespace

TopkKernels topk_avx512() { return {make_digits, count_at_least, between, low_digits, collect, widen}; }

}  // namespace sparsecore::cpu
