// The end of a linear kernel on 16 outputs of one token: bias, activation, the one rounding, the store.
#pragma once

#include "cpu/common/avx512.h"
#include "cpu/common/linear_call.h"

namespace sparsecore::cpu {

// Rows row .. row + 15 where the mask has a bit; its bits are the lowest ones. Never inlined: a kernel has it once a
// register of its tile, and the activations are long.
template <core::DType kType>
[[gnu::noinline]] static void store_outputs(const LinearCall& call, int64_t token, int64_t row, __mmask16 mask, __m512 sum) {
    if (call.bias != nullptr) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, call.bias + row));
    sum = activate_ps(sum, call.activation);
    const int64_t first = token * call.out_token_stride + row * call.out_row_stride;
    if (call.out_row_stride == 1) {
        store_ps<kType>(call.out, first, mask, sum);
        return;
    }
    alignas(64) float values[16];
    _mm512_store_ps(values, sum);
    for (int i = 0; i < 16 && (mask >> i & 1) != 0; ++i) {
        core::store_float(call.out, first + i * call.out_row_stride, kType, values[i]);
    }
}

}  // namespace sparsecore::cpu
