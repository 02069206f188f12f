// Pieces that the AVX-512 kernels share. Included by avx512.cpp files only; everything is static, so that no copy
// compiled for AVX-512 can be linked into other code.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/epilogue.h"

namespace sparsecore::cpu {

// The first `count` of 16 lanes; count may be larger than 16 or not positive.
static inline __mmask16 lanes16(int64_t count) {
    return count >= 16 ? 0xffff : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1u);
}

static inline __m512 f16_bits_to_ps(__m256i bits) { return _mm512_cvtph_ps(bits); }
static inline __m512 bf16_bits_to_ps(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// 16 elements from data[index] on; lanes outside the mask are zero and not read.
template <core::DType kType>
static inline __m512 load_ps(const void* data, int64_t index, __mmask16 mask) {
    if constexpr (kType == core::DType::F32) {
        return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(data) + index);
    } else {
        const __m256i bits = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(data) + index);
        return kType == core::DType::F16 ? f16_bits_to_ps(bits) : bf16_bits_to_ps(bits);
    }
}

// Round to nearest even; a NaN keeps its sign and becomes quiet (the same bits as core::f32_to_bf16).
static inline __m256i ps_to_bf16_bits(__m512 value) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

template <core::DType kType>
static inline void store_ps(void* data, int64_t index, __mmask16 mask, __m512 value) {
    if constexpr (kType == core::DType::F32) {
        _mm512_mask_storeu_ps(static_cast<float*>(data) + index, mask, value);
    } else {
        const __m256i bits = kType == core::DType::F16
                                 ? _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
                                 : ps_to_bf16_bits(value);
        _mm256_mask_storeu_epi16(static_cast<uint16_t*>(data) + index, mask, bits);
    }
}

// e^x, within 2 units in the last place; inf, 0 and NaN as std::exp. x = n ln 2 + r, |r| <= ln 2 / 2, e^r by its Taylor
// series to r^7 (the rest is below 6e-9), ln 2 in two parts so that r is exact to fp32 (Cody and Waite, 1980).
static inline __m512 exp_ps(__m512 x) {
    // The clamps keep n finite and sit where the result is already inf or 0; NaN passes as the second operand.
    x = _mm512_min_ps(_mm512_set1_ps(128.0f), x);
    x = _mm512_max_ps(_mm512_set1_ps(-128.0f), x);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145751953125f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860682030941723e-6f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040.0f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

// x * Phi(x). With a = |x| / sqrt 2, erfc(a) e^(a^2) is a polynomial in t = 1 / (1 + 0.39 a), the form of Hastings
// (1955); the coefficients are a least-maximum fit of ours over [0, 4.2], error of erf below 9e-9.
static inline __m512 gelu_ps(__m512 x) {
    const __m512 a = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678118654752f));
    const __m512 t = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_fmadd_ps(a, _mm512_set1_ps(0.39f), _mm512_set1_ps(1.0f)));
    __m512 p = _mm512_set1_ps(-0.22753725f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.88666489f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.63540113f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.64956009f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.09138814f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.23532526f));
    const __m512 gauss = exp_ps(_mm512_mul_ps(a, _mm512_sub_ps(_mm512_setzero_ps(), a)));
    const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(0.5f), gauss), _mm512_mul_ps(p, t));  // Phi(-|x|)
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 phi = _mm512_mask_mov_ps(_mm512_sub_ps(_mm512_set1_ps(1.0f), tail), negative, tail);
    return _mm512_mul_ps(x, phi);
}

// x / (1 + e^-u): silu with u = x.
static inline __m512 times_sigmoid_ps(__m512 x, __m512 u) {
    const __m512 e = exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), u));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

static inline __m512 activate_ps(__m512 x, Activation activation) {
    switch (activation) {
        case Activation::Relu:
            return _mm512_max_ps(_mm512_setzero_ps(), x);  // NaN passes as the second operand
        case Activation::Gelu:
            return gelu_ps(x);
        case Activation::GeluTanh: {  // 0.5 (1 + tanh v) = sigmoid(2 v)
            const __m512 cubic = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_mul_ps(x, x), x), _mm512_set1_ps(0.044715f), x);
            return times_sigmoid_ps(x, _mm512_mul_ps(cubic, _mm512_set1_ps(2.0f * 0.79788456080286536f)));
        }
        case Activation::Silu:
            return times_sigmoid_ps(x, x);
        default:
            return x;
    }
}

// Rows become columns: lane c of r[i] moves to lane i of r[c].
static inline void transpose16(__m512 (&r)[16]) {
    __m512 t[16];
    for (int i = 0; i < 8; ++i) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 2; ++j) {
            const __m512d low = _mm512_castps_pd(t[4 * i + j]), high = _mm512_castps_pd(t[4 * i + 2 + j]);
            r[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            r[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

}  // namespace sparsecore::cpu
