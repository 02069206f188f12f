// Quantises tokens to unsigned bytes q + 128; the rule and its edge cases are in quantise.h.
#include "cpu/common/avx512.h"
#include "cpu/int8_linear/quads.h"
#include "cpu/int8_linear/quantise.h"

namespace sparsecore::cpu {

namespace {

using core::DType;

template <DType kType>
float scale_of(const LinearCall& call, int64_t first) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i largest[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int64_t c = 0; c < call.cols; c += 32) {
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
            const __m512 x = load_ps<kType>(call.x, first + c + 16 * i, lanes16(call.cols - c - 16 * i));
            largest[i] = _mm512_max_epu32(largest[i], _mm512_and_si512(_mm512_castps_si512(x), magnitude));
        }
    }
    return int8_scale(static_cast<uint32_t>(_mm512_reduce_max_epu32(_mm512_max_epu32(largest[0], largest[1]))));
}

template <DType kType>
void quantise_token(const LinearCall& call, int64_t token, uint8_t* out, float* scale_out) {
    const int64_t first = token * call.x_token_stride;
    const float scale = *scale_out = scale_of<kType>(call, first);
    const __m512 divisor = _mm512_set1_ps(scale);
    const __m512i low = _mm512_set1_epi32(-127), high = _mm512_set1_epi32(127), offset = _mm512_set1_epi32(kInputOffset);
    const __mmask16 finite = scale == scale ? 0xffff : 0;
    for (int64_t c = 0; c < call.cols; c += 16) {
        const __m512 x = load_ps<kType>(call.x, first + c, lanes16(call.cols - c));
        __m512i q = _mm512_maskz_cvt_roundps_epi32(finite, _mm512_div_ps(x, divisor),
                                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        q = _mm512_min_epi32(_mm512_max_epi32(q, low), high);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + c), _mm512_cvtepi32_epi8(_mm512_add_epi32(q, offset)));
    }
}

void quantise_strided(const LinearCall& call, int64_t token, uint8_t* out, float* scale_out) {
    const float scale = *scale_out = token_scale(call, token);
    for (int64_t c = 0; c < call.cols; ++c) {
        out[c] = static_cast<uint8_t>(int8_value(load_x(call, token, c), scale) + kInputOffset);
    }
}

}  // namespace

void int8_quantise_avx512(const LinearCall& call, int64_t begin, int64_t end, uint8_t* values, float* scales) {
    const int64_t stride = offset_token_bytes(call.cols);
    for (int64_t token = begin; token < end; ++token, values += stride, ++scales) {
        if (call.x_column_stride != 1) {
            quantise_strided(call, token, values, scales);
        } else if (call.dtype == DType::F32) {
            quantise_token<DType::F32>(call, token, values, scales);
        } else if (call.dtype == DType::F16) {
            quantise_token<DType::F16>(call, token, values, scales);
        } else {
            quantise_token<DType::BF16>(call, token, values, scales);
        }
        // What lies past the last column is multiplied by zeros, but must be memory that was written.
        for (int64_t c = (call.cols + 15) / 16 * 16; c < stride; c += 16) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(values + c), _mm_setzero_si128());
        }
    }
}

}  // namespace sparsecore::cpu
