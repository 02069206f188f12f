// The one fp32 step after the exact sums of 16 rows. Included by AVX-512 files only.
#pragma once

#include "cpu/common/avx512_output.h"

namespace sparsecore::cpu {

// `sums`: int32 of rows row .. row + 15 of one token; `w_scales`: the scales of those that exist.
static inline void store_int8_sums(const LinearCall& call, int64_t token, int64_t row, __m512i sums, float x_scale,
                                   const float* w_scales) {
    const __mmask16 mask = lanes16(call.rows - row);
    const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(x_scale), _mm512_maskz_loadu_ps(mask, w_scales));
    const __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale);
    switch (call.dtype) {
        case core::DType::F32: store_outputs<core::DType::F32>(call, token, row, mask, value); return;
        case core::DType::F16: store_outputs<core::DType::F16>(call, token, row, mask, value); return;
        default: store_outputs<core::DType::BF16>(call, token, row, mask, value); return;
    }
}

}  // namespace sparsecore::cpu
