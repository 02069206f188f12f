// Vectors and packing of the AVX-512 and AMX kernels of prefill_tile.h. Included by their files only.
#pragma once

#include "cpu/attention/prefill_tile.h"
#include "cpu/common/avx512.h"

namespace sparsecore::cpu {

namespace {  // in a header, but of kernel files only: each has a copy of its own

struct PrefillLanes16 {
    using Float = __m512;
    using Int = __m512i;
    static constexpr int kLanes = 16;

    static inline Float set(float x) { return _mm512_set1_ps(x); }
    static inline Float load(const float* from) { return _mm512_load_ps(from); }
    static inline void store(float* to, Float x) { _mm512_store_ps(to, x); }
    static inline Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static inline Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static inline Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static inline float sum(Float x) { return _mm512_reduce_add_ps(x); }
    static inline float largest(Float x) { return _mm512_reduce_max_ps(x); }

    // Vector v of a word of bits.
    static inline __mmask16 mask(uint64_t word, int v) { return static_cast<__mmask16>(word >> (16 * v)); }
    static inline Float keep(__mmask16 mask, Float x) { return _mm512_maskz_mov_ps(mask, x); }
    static inline Float max_where(__mmask16 mask, Float a, Float b) { return _mm512_mask_max_ps(a, mask, a, b); }

    // Non-zero bytes of a mask, at most 64.
    static inline uint64_t bits(const uint8_t* mask, int64_t count) {
        const __mmask64 there = count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
        const __m512i bytes = _mm512_maskz_loadu_epi8(there, mask);
        return _mm512_test_epi8_mask(bytes, bytes);
    }

    // 2^x, x at most 128, relative error below 2e-7: x = n + r, |r| <= 1/2, and 2^r by a polynomial of least maximum
    // relative error that is 1 at 0 (ours). NaN passes as the second operand of the maximum.
    static inline Float exp2(Float x) {
        x = _mm512_max_ps(set(-200.0f), x);
        const Float n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const Float r = _mm512_sub_ps(x, n);
        Float p = set(0.001326472731307149f);
        p = fma(p, r, set(0.009671512991189957f));
        p = fma(p, r, set(0.05550733581185341f));
        p = fma(p, r, set(0.24022242426872253f));
        p = fma(p, r, set(0.6931470036506653f));
        p = fma(p, r, set(1.0f));
        return _mm512_scalef_ps(p, n);
    }

    static inline Int load_int(const int32_t* from) { return _mm512_load_si512(from); }
    static inline void store_int(int32_t* to, Int x) { _mm512_store_si512(to, x); }
    static inline Int add_int(Int a, Int b) { return _mm512_add_epi32(a, b); }
    static inline Int set_int(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
    static inline Int bits_of(Float x) { return _mm512_castps_si512(x); }

    // How many floats of the active blocks have bits of at least `bound`.
    static inline int64_t reaching(const float* row, const int32_t* active, int64_t count, int32_t bound) {
        const Int least = _mm512_set1_epi32(bound), one = _mm512_set1_epi32(1);
        Int sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        for (int64_t a = 0; a < count; ++a) {
            const float* block = row + active[a] * kPrefillBlock;
            for (int v = 0; v < 4; ++v) {
                const __mmask16 reached = _mm512_cmpge_epi32_mask(_mm512_load_si512(block + 16 * v), least);
                sum[v % 2] = _mm512_mask_add_epi32(sum[v % 2], reached, sum[v % 2], one);
            }
        }
        return _mm512_reduce_add_epi32(_mm512_add_epi32(sum[0], sum[1]));
    }
    static inline uint64_t reach_bits(const float* from, int32_t bound) {
        return _mm512_cmpge_epi32_mask(_mm512_load_si512(from), _mm512_set1_epi32(bound));
    }

    // Sums of outputs in the units of a head's score.
    static inline Int no_units() { return _mm512_setzero_si512(); }
    static inline Int add_units(Int sum, Float x) {
        const Float size = _mm512_mul_ps(_mm512_abs_ps(x), set(kScoreOne));
        const __mmask16 number = _mm512_cmp_ps_mask(size, size, _CMP_ORD_Q);
        // What does not fit becomes 2^32 - 1.
        Int units = _mm512_maskz_cvt_roundps_epu32(number, size, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        units = _mm512_min_epu32(units, _mm512_set1_epi32(kLargestOutput));
        sum = _mm512_add_epi64(sum, _mm512_cvtepu32_epi64(_mm512_castsi512_si256(units)));
        return _mm512_add_epi64(sum, _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(units, 1)));
    }
    static inline int64_t sum_units(Int sum) { return _mm512_reduce_add_epi64(sum); }
};

}  // namespace

// 32-bit units of a token from element d on, `left` elements being there: one as fp32 or, with kPairs, two in bf16.
template <core::DType kType, bool kPairs>
static inline __m512i prefill_units(const void* data, int64_t index, int64_t left) {
    if constexpr (kPairs) {
        const __mmask32 mask = left >= 32 ? ~0u : left <= 0 ? 0u : (1u << left) - 1u;
        return _mm512_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(data) + index);
    } else {
        return _mm512_castps_si512(load_ps<kType>(data, index, lanes16(left)));
    }
}

template <core::DType kType, bool kPairs>
static inline void prefill_load_queries(const PrefillProblem& p, void* out, int64_t rows, int64_t head, int64_t first,
                                        int64_t count) {
    constexpr int64_t kElements = kPairs ? 32 : 16, kItem = kPairs ? 2 : 4;
    // A negative scale turns the signs of the queries: the largest score then comes from the largest product.
    const __m512i sign = _mm512_set1_epi32(p.scale >= 0.0f ? 0 : kPairs ? INT32_MIN | 0x8000 : INT32_MIN);
    const int64_t tile = prefill_offset(p.q, p.heads, head, first);
    auto* place = static_cast<uint8_t*>(out);
    for (int64_t i = 0; i < rows; ++i) {
        const int64_t query = i < count ? tile + i * p.q.token_stride : tile;
        for (int64_t d = 0; d < padded_width(p); d += kElements, place += kElements * kItem) {
            const int64_t left = i < count ? p.width - d : 0;
            const __m512i units = prefill_units<kType, kPairs>(p.q.data, query + d, left);
            _mm512_store_si512(place, _mm512_xor_si512(units, sign));
        }
    }
}

// Stores the first `left` of 16 elements and returns them as they are stored.
template <core::DType kType>
static inline __m512 prefill_store_ps(void* data, int64_t index, int64_t left, __m512 x) {
    const __mmask16 mask = lanes16(left);
    if constexpr (kType == core::DType::F32) {
        _mm512_mask_storeu_ps(static_cast<float*>(data) + index, mask, x);
        return x;
    } else {
        const __m256i bits = kType == core::DType::F16 ? _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
                                                       : ps_to_bf16_bits(x);
        _mm256_mask_storeu_epi16(static_cast<uint16_t*>(data) + index, mask, bits);
        return kType == core::DType::F16 ? f16_bits_to_ps(bits) : bf16_bits_to_ps(bits);
    }
}

// The panel of a block of keys: 16 units of 16 keys at a time become columns.
template <core::DType kType, bool kPairs>
static inline void prefill_pack_keys(const PrefillProblem& p, const PrefillKeys& keys, int64_t key_head, int64_t block) {
    constexpr int64_t kElements = kPairs ? 32 : 16;
    float* panel = static_cast<float*>(keys.keys) + block * kPrefillBlock * padded_width(p) / (kPairs ? 2 : 1);
    for (int64_t d = 0; d < padded_width(p); d += kElements) {
        for (int64_t group = 0; group < kPrefillBlock; group += 16) {
            __m512 units[16];
#pragma GCC unroll 16
            for (int64_t i = 0; i < 16; ++i) {
                const int64_t key = block * kPrefillBlock + group + i;
                const bool there = key < p.keys;
                const int64_t offset = prefill_offset(p.k, p.key_heads, key_head, there ? key : 0);
                units[i] = _mm512_castsi512_ps(
                    prefill_units<kType, kPairs>(p.k.data, offset + d, there ? p.width - d : 0));
            }
            transpose16(units);
            float* rows = panel + d / (kPairs ? 2 : 1) * kPrefillBlock + group;
#pragma GCC unroll 16
            for (int64_t i = 0; i < 16; ++i) _mm512_store_ps(rows + i * kPrefillBlock, units[i]);
        }
    }
}

// The rows of the value panels that belong to a block of keys; false if a value is inf or NaN.
template <core::DType kType, bool kPairs>
static inline bool prefill_pack_values(const PrefillProblem& p, const PrefillKeys& keys, int64_t key_head,
                                       int64_t block) {
    constexpr int64_t kDepth = kPairs ? 2 : 1;
    bool finite = true;
    for (int64_t key = block * kPrefillBlock; key < (block + 1) * kPrefillBlock; key += kDepth) {
        const int64_t first = prefill_offset(p.v, p.key_heads, key_head, key < p.keys ? key : 0);
        const int64_t next = prefill_offset(p.v, p.key_heads, key_head, key + 1 < p.keys ? key + 1 : 0);
        for (int64_t column = 0; column < panels(p) * kPrefillBlock; column += 16) {
            const __mmask16 here = key < p.keys ? lanes16(p.value_width - column) : 0;
            __m512i units;
            if constexpr (kPairs) {
                const __mmask16 there = key + 1 < p.keys ? here : 0;
                const auto* data = static_cast<const uint16_t*>(p.v.data) + column;
                const __m256i low = _mm256_maskz_loadu_epi16(here, data + first);
                const __m256i high = _mm256_maskz_loadu_epi16(there, data + next);
                units = _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
                const __m512i exponent = _mm512_set1_epi16(0x7f80);
                const __mmask32 odd = _mm512_cmpeq_epi16_mask(_mm512_and_si512(units, exponent), exponent);
                units = _mm512_maskz_mov_epi16(~odd, units);
                finite = finite && odd == 0;
            } else {
                units = _mm512_castps_si512(load_ps<kType>(p.v.data, first + column, here));
                const __m512i exponent = _mm512_set1_epi32(0x7f800000);
                const __mmask16 odd = _mm512_cmpeq_epi32_mask(_mm512_and_si512(units, exponent), exponent);
                units = _mm512_maskz_mov_epi32(static_cast<__mmask16>(~odd), units);
                finite = finite && odd == 0;
            }
            const int64_t panel = column / kPrefillBlock * padded_keys(p) / kDepth + key / kDepth;
            _mm512_store_si512(static_cast<int32_t*>(keys.values) + panel * kPrefillBlock + column % kPrefillBlock, units);
        }
    }
    return finite;
}

template <core::DType kType, bool kPairs>
static bool prefill_pack(const PrefillProblem& p, const PrefillKeys& keys, int64_t key_head, int64_t block) {
    prefill_pack_keys<kType, kPairs>(p, keys, key_head, block);
    return prefill_pack_values<kType, kPairs>(p, keys, key_head, block);
}

// out [kRows, kVectors * 16] (+)= a [kRows, depth] times a panel, strides and depth in units.
template <class Kernel, int kRows, int kVectors>
static inline void prefill_multiply_rows(const float* a, int64_t a_stride, const float* panel, int64_t depth, float* out,
                                         int64_t out_stride, bool add) {
    __m512 sum[kRows][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            sum[i][v] = add ? _mm512_load_ps(out + i * out_stride + 16 * v) : _mm512_setzero_ps();
        }
    }
    for (int64_t d = 0; d < depth; ++d, panel += kPrefillBlock) {
        __m512 b[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) b[v] = _mm512_load_ps(panel + 16 * v);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
            const __m512 unit = _mm512_set1_ps(a[i * a_stride + d]);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[i][v] = Kernel::step(sum[i][v], unit, b[v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) _mm512_store_ps(out + i * out_stride + 16 * v, sum[i][v]);
    }
}

// The same for all rows of a tile and any number of columns.
template <class Kernel>
static inline void prefill_multiply_panel(const float* a, int64_t a_stride, const float* panel, int64_t depth,
                                          int64_t columns, float* out, int64_t out_stride, bool add) {
    constexpr int kGroup = 6;  // with 4 vectors of columns: 24 sums, 4 parts of the panel and a broadcast in 32 registers
    static_assert(Kernel::kRows % kGroup == 0);
    for (int64_t i = 0; i < Kernel::kRows; i += kGroup, a += kGroup * a_stride, out += kGroup * out_stride) {
        switch ((columns + 15) / 16) {
            case 1: prefill_multiply_rows<Kernel, kGroup, 1>(a, a_stride, panel, depth, out, out_stride, add); break;
            case 2: prefill_multiply_rows<Kernel, kGroup, 2>(a, a_stride, panel, depth, out, out_stride, add); break;
            case 3: prefill_multiply_rows<Kernel, kGroup, 3>(a, a_stride, panel, depth, out, out_stride, add); break;
            default: prefill_multiply_rows<Kernel, kGroup, 4>(a, a_stride, panel, depth, out, out_stride, add);
        }
    }
}

}  // namespace sparsecore::cpu
