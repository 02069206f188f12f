// Pieces that the AVX2 kernels share, the counterpart of avx512.h: the same formulas on 8 lanes. Included by avx2.cpp
// files only; everything is static, so that no copy compiled for AVX2 can be linked into other code.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/epilogue.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

// All bits of the first `count` of 8 lanes; count may be larger than 8 or not positive.
static inline __m256i lanes8(int64_t count) {
    const int32_t kept = count > 8 ? 8 : count < 0 ? 0 : static_cast<int32_t>(count);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(kept), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

template <core::DType kType>
static inline __m256 bits_to_ps(__m128i bits) {
    if constexpr (kType == core::DType::F16) {
        return _mm256_cvtph_ps(bits);
    } else {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
}

// 8 elements from data[index] on.
template <core::DType kType>
static inline __m256 load8_ps(const void* data, int64_t index) {
    if constexpr (kType == core::DType::F32) {
        return _mm256_loadu_ps(static_cast<const float*>(data) + index);
    } else {
        const auto* place = reinterpret_cast<const __m128i*>(static_cast<const uint16_t*>(data) + index);
        return bits_to_ps<kType>(_mm_loadu_si128(place));
    }
}

// The first `count` of 8 elements; the others are zero and not read.
template <core::DType kType>
static inline __m256 load8_ps(const void* data, int64_t index, int64_t count) {
    if (count >= 8) return load8_ps<kType>(data, index);
    if constexpr (kType == core::DType::F32) {
        return _mm256_maskload_ps(static_cast<const float*>(data) + index, lanes8(count));
    } else {
        alignas(16) uint16_t bits[8] = {};
        for (int64_t i = 0; i < count; ++i) bits[i] = static_cast<const uint16_t*>(data)[index + i];
        return bits_to_ps<kType>(_mm_load_si128(reinterpret_cast<const __m128i*>(bits)));
    }
}

// Round to nearest even; a NaN keeps its sign and becomes quiet (the same bits as core::f32_to_bf16).
static inline __m128i ps_to_bf16_bits8(__m256 value) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    return _mm256_castsi256_si128(packed);
}

// The first `count` of 8 lanes.
template <core::DType kType>
static inline void store8_ps(void* data, int64_t index, int64_t count, __m256 value) {
    if constexpr (kType == core::DType::F32) {
        float* place = static_cast<float*>(data) + index;
        if (count >= 8) return _mm256_storeu_ps(place, value);
        _mm256_maskstore_ps(place, lanes8(count), value);
    } else {
        const __m128i bits = kType == core::DType::F16
                                 ? _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
                                 : ps_to_bf16_bits8(value);
        uint16_t* place = static_cast<uint16_t*>(data) + index;
        if (count >= 8) return _mm_storeu_si128(reinterpret_cast<__m128i*>(place), bits);
        alignas(16) uint16_t lanes[8];
        _mm_store_si128(reinterpret_cast<__m128i*>(lanes), bits);
        for (int64_t i = 0; i < count; ++i) place[i] = lanes[i];
    }
}

static inline __m256 set8_ps(float value) { return _mm256_set1_ps(value); }

// e^x as exp_ps in avx512.h; 2^n in two factors, because n reaches 185.
static inline __m256 exp8_ps(__m256 x) {
    x = _mm256_max_ps(set8_ps(-128.0f), _mm256_min_ps(set8_ps(128.0f), x));  // NaN passes as the second operand
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, set8_ps(1.44269504088896341f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, set8_ps(0.693145751953125f), x);
    r = _mm256_fnmadd_ps(n, set8_ps(1.42860682030941723e-6f), r);
    __m256 p = set8_ps(1.0f / 5040.0f);
    p = _mm256_fmadd_ps(p, r, set8_ps(1.0f / 720.0f));
    p = _mm256_fmadd_ps(p, r, set8_ps(1.0f / 120.0f));
    p = _mm256_fmadd_ps(p, r, set8_ps(1.0f / 24.0f));
    p = _mm256_fmadd_ps(p, r, set8_ps(1.0f / 6.0f));
    p = _mm256_fmadd_ps(p, r, set8_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, set8_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, set8_ps(1.0f));
    const __m256i power = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(power, 1), one = _mm256_set1_epi32(127);
    const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, one), 23);
    const __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(power, half), one), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

// gelu_ps of avx512.h.
static inline __m256 gelu8_ps(__m256 x) {
    const __m256 sign = set8_ps(-0.0f);
    const __m256 a = _mm256_mul_ps(_mm256_andnot_ps(sign, x), set8_ps(0.70710678118654752f));
    const __m256 t = _mm256_div_ps(set8_ps(1.0f), _mm256_fmadd_ps(a, set8_ps(0.39f), set8_ps(1.0f)));
    __m256 p = set8_ps(-0.22753725f);
    p = _mm256_fmadd_ps(p, t, set8_ps(0.88666489f));
    p = _mm256_fmadd_ps(p, t, set8_ps(-0.63540113f));
    p = _mm256_fmadd_ps(p, t, set8_ps(0.64956009f));
    p = _mm256_fmadd_ps(p, t, set8_ps(0.09138814f));
    p = _mm256_fmadd_ps(p, t, set8_ps(0.23532526f));
    const __m256 gauss = exp8_ps(_mm256_mul_ps(a, _mm256_xor_ps(a, sign)));
    const __m256 tail = _mm256_mul_ps(_mm256_mul_ps(set8_ps(0.5f), gauss), _mm256_mul_ps(p, t));  // Phi(-|x|)
    return _mm256_mul_ps(x, _mm256_blendv_ps(_mm256_sub_ps(set8_ps(1.0f), tail), tail, x));  // by the sign of x
}

// x / (1 + e^-u): silu with u = x.
static inline __m256 times_sigmoid8_ps(__m256 x, __m256 u) {
    return _mm256_div_ps(x, _mm256_add_ps(set8_ps(1.0f), exp8_ps(_mm256_xor_ps(u, set8_ps(-0.0f)))));
}

static inline __m256 activate8_ps(__m256 x, Activation activation) {
    switch (activation) {
        case Activation::Relu:
            return _mm256_max_ps(_mm256_setzero_ps(), x);  // NaN passes as the second operand
        case Activation::Gelu:
            return gelu8_ps(x);
        case Activation::GeluTanh: {  // 0.5 (1 + tanh v) = sigmoid(2 v)
            const __m256 cubic = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_mul_ps(x, x), x), set8_ps(0.044715f), x);
            return times_sigmoid8_ps(x, _mm256_mul_ps(cubic, set8_ps(2.0f * 0.79788456080286536f)));
        }
        case Activation::Silu:
            return times_sigmoid8_ps(x, x);
        default:
            return x;
    }
}

// Rows become columns: lane c of r[i] moves to lane i of r[c].
static inline void transpose8(__m256 (&r)[8]) {
    __m256 t[8];
    for (int i = 0; i < 4; ++i) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
            r[4 * i + 2 * j] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0x44);
            r[4 * i + 2 * j + 1] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0xee);
        }
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    for (int i = 0; i < 8; ++i) r[i] = t[i];
}

// The end of a linear kernel on 8 outputs of one token, rows row .. row + count - 1: bias, activation, the one rounding,
// the store. Never inlined: a kernel has it once a register of its tile, and the activations are long.
template <core::DType kType>
[[gnu::noinline]] static void store_outputs8(const LinearCall& call, int64_t token, int64_t row, int64_t count, __m256 sum) {
    if (call.bias != nullptr) sum = _mm256_add_ps(sum, load8_ps<core::DType::F32>(call.bias, row, count));
    sum = activate8_ps(sum, call.activation);
    const int64_t first = token * call.out_token_stride + row * call.out_row_stride;
    if (call.out_row_stride == 1) return store8_ps<kType>(call.out, first, count, sum);
    alignas(32) float values[8];
    _mm256_store_ps(values, sum);
    for (int64_t i = 0; i < 8 && i < count; ++i) {
        core::store_float(call.out, first + i * call.out_row_stride, kType, values[i]);
    }
}

}  // namespace sparsecore::cpu
