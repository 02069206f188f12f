#include <immintrin.h>

#include "cpu/topk/kernels.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

// For every mask of 8 lanes: the set lanes, ascending, in front.
struct CompressTable {
    uint8_t lanes[256][8];
};

constexpr CompressTable make_compress_table() {
    CompressTable table{};
    for (int mask = 0; mask < 256; ++mask) {
        int count = 0;
        for (int lane = 0; lane < 8; ++lane) {
            if ((mask >> lane & 1) != 0) table.lanes[mask][count++] = static_cast<uint8_t>(lane);
        }
    }
    return table;
}

constexpr CompressTable kCompress = make_compress_table();

__m256i load(const void* data) { return _mm256_loadu_si256(static_cast<const __m256i*>(data)); }
void store(void* data, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(data), value); }

__m256i keys_of_f32(__m256i bits) {
    const __m256i negated = _mm256_sub_epi32(_mm256_set1_epi32(INT32_MIN), bits);
    const __m256i key = _mm256_blendv_epi8(bits, negated, _mm256_srai_epi32(bits, 31));
    const __m256 value = _mm256_castsi256_ps(bits);
    const __m256 nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    return _mm256_blendv_epi8(key, _mm256_set1_epi32(kNanKey), _mm256_castps_si256(nan));
}

__m256i digits_of_f32(const uint32_t* x) {
    const __m256i first = _mm256_srai_epi32(keys_of_f32(load(x)), 16);
    const __m256i second = _mm256_srai_epi32(keys_of_f32(load(x + 8)), 16);
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
}

__m256i digits_of_half(const uint16_t* x, __m256i infinity) {
    const __m256i bits = load(x);
    const __m256i negated = _mm256_sub_epi16(_mm256_set1_epi16(INT16_MIN), bits);
    const __m256i digit = _mm256_blendv_epi8(bits, negated, _mm256_srai_epi16(bits, 15));
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi16(INT16_MAX));
    return _mm256_blendv_epi8(digit, _mm256_set1_epi16(INT16_MAX), _mm256_cmpgt_epi16(magnitude, infinity));
}

void make_digits(DType dtype, const void* x, int64_t n, int16_t* digits) {
    const auto* words = static_cast<const uint32_t*>(x);
    const auto* halves = static_cast<const uint16_t*>(x);
    const bool wide = dtype == DType::F32;
    const __m256i infinity = _mm256_set1_epi16(static_cast<int16_t>(infinity_bits(dtype)));
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) store(digits + i, wide ? digits_of_f32(words + i) : digits_of_half(halves + i, infinity));
    for (; i < n; ++i) digits[i] = high_digit(key_at(dtype, x, i));
}

int64_t sum_of_words(__m256i counts) {
    const __m256i pairs = _mm256_madd_epi16(counts, _mm256_set1_epi16(1));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return _mm_cvtsi128_si32(sum);
}

int64_t count_at_least(const int16_t* digits, int64_t n, int16_t least) {
    constexpr int64_t kBlock = 16 * INT16_MAX;  // what 16-bit counters hold
    const __m256i pivot = _mm256_set1_epi16(least);
    int64_t below = 0, i = 0;
    while (i + 16 <= n) {
        const int64_t end = n - i < kBlock ? n : i + kBlock;
        __m256i counts = _mm256_setzero_si256();
        for (; i + 16 <= end; i += 16) counts = _mm256_sub_epi16(counts, _mm256_cmpgt_epi16(pivot, load(digits + i)));
        below += sum_of_words(counts);
    }
    for (; i < n; ++i) below += digits[i] < least;
    return n - below;
}

// One bit for each of 16 words.
unsigned mask_of(__m256i words) {
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    return static_cast<unsigned>(_mm_movemask_epi8(bytes));
}

// The lanes of `mask`, ascending, in the low bytes.
__m128i chosen_lanes(unsigned mask) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kCompress.lanes[mask])); }

// Words in the order of `lanes`: word w is bytes 2w and 2w + 1.
__m128i permute_words(__m128i words, __m128i lanes) {
    const __m128i twice = _mm_unpacklo_epi8(lanes, lanes);
    return _mm_shuffle_epi8(words, _mm_add_epi8(_mm_add_epi8(twice, twice), _mm_set1_epi16(0x0100)));
}

int64_t between(const int16_t* digits, int64_t n, int16_t low, int16_t high, int16_t* out) {
    const __m256i least = _mm256_set1_epi16(low), most = _mm256_set1_epi16(high);
    int64_t count = 0, i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i digit = load(digits + i);
        const unsigned outside = mask_of(_mm256_or_si256(_mm256_cmpgt_epi16(least, digit), _mm256_cmpgt_epi16(digit, most)));
        for (int half = 0; half < 2; ++half) {
            const unsigned inside = ~outside >> (8 * half) & 0xffu;
            const __m128i words = half == 0 ? _mm256_castsi256_si128(digit) : _mm256_extracti128_si256(digit, 1);
            const __m128i found = permute_words(words, chosen_lanes(inside));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + count), found);
            count += _mm_popcnt_u32(inside);
        }
    }
    for (; i < n; ++i) {
        if (digits[i] >= low && digits[i] <= high) out[count++] = digits[i];
    }
    return count;
}

int64_t low_digits(const uint32_t* x, const int16_t* digits, int64_t n, int16_t high, int16_t* low) {
    const __m256i pivot = _mm256_set1_epi16(high);
    int64_t count = 0, i = 0;
    for (; i + 16 <= n; i += 16) {
        for (unsigned equal = mask_of(_mm256_cmpeq_epi16(load(digits + i), pivot)); equal != 0; equal &= equal - 1) {
            low[count++] = low_digit(key_of_f32(x[i + static_cast<int64_t>(_tzcnt_u32(equal))]));
        }
    }
    for (; i < n; ++i) {
        if (digits[i] == high) low[count++] = low_digit(key_of_f32(x[i]));
    }
    return count;
}

// Which of 16 elements have a key of at least `least`.
unsigned refine(const uint32_t* x, int32_t least) {
    const __m256i pivot = _mm256_set1_epi32(least);
    const __m256i first = _mm256_cmpgt_epi32(pivot, keys_of_f32(load(x)));
    const __m256i second = _mm256_cmpgt_epi32(pivot, keys_of_f32(load(x + 8)));
    return ~mask_of(_mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8)) & 0xffffu;
}

struct Output {
    void* values;
    uint16_t* positions;
    int64_t count;
};

// Appends the lanes of `mask` among the 8 elements from x[i] on.
template <class T>
void append(const T* x, int64_t i, unsigned mask, Output& out) {
    const __m128i lanes = chosen_lanes(mask);
    const __m128i place = _mm_add_epi16(_mm_cvtepu8_epi16(lanes), _mm_set1_epi16(static_cast<int16_t>(i)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.positions + out.count), place);
    T* values = static_cast<T*>(out.values) + out.count;
    if constexpr (sizeof(T) == 4) {
        store(values, _mm256_permutevar8x32_epi32(load(x + i), _mm256_cvtepu8_epi32(lanes)));
    } else {
        const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(values), permute_words(words, lanes));
    }
    out.count += _mm_popcnt_u32(mask);
}

template <class T>
int64_t collect_of(const T* x, const int16_t* digits, int64_t n, int32_t least, Output out) {
    const __m256i high = _mm256_set1_epi16(high_digit(least));
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i digit = load(digits + i);
        unsigned take = mask_of(_mm256_cmpgt_epi16(digit, high));
        const unsigned equal = mask_of(_mm256_cmpeq_epi16(digit, high));
        if constexpr (sizeof(T) == 2) {
            take |= equal;
        } else if (equal != 0) {
            take |= equal & refine(x + i, least);
        }
        if (take == 0) continue;
        append(x, i, take & 0xffu, out);
        append(x, i + 8, take >> 8, out);
    }
    for (; i < n; ++i) {
        const DType dtype = sizeof(T) == 4 ? DType::F32 : DType::F16;
        const bool above = digits[i] > high_digit(least);
        if (!above && (digits[i] != high_digit(least) || (sizeof(T) == 4 && key_at(dtype, x, i) < least))) continue;
        static_cast<T*>(out.values)[out.count] = x[i];
        out.positions[out.count++] = static_cast<uint16_t>(i);
    }
    return out.count;
}

int64_t collect(DType dtype, const void* x, const int16_t* digits, int64_t n, int32_t least, void* values,
                uint16_t* positions) {
    const Output out{values, positions, 0};
    if (dtype == DType::F32) return collect_of(static_cast<const uint32_t*>(x), digits, n, least, out);
    return collect_of(static_cast<const uint16_t*>(x), digits, n, least, out);
}

void widen(const uint16_t* positions, int64_t n, int64_t base, int64_t* out) {
    const __m256i first = _mm256_set1_epi64x(base);
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const __m128i four = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(positions + i));
        store(out + i, _mm256_add_epi64(_mm256_cvtepu16_epi64(four), first));
    }
    for (; i < n; ++i) out[i] = positions[i] + base;
}

}  // namespace

TopkKernels topk_avx2() { return {make_digits, count_at_least, between, low_digits, collect, widen}; }

}  // namespace sparsecore::cpu
