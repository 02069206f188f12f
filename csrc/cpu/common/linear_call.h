// One call of a linear kernel, after its checks: what the kernels of every instruction set take. Functions are static, so
// that no copy compiled for one instruction set can be linked into other code.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/common/epilogue.h"

namespace sparsecore::cpu {

// out[t, r] = activation(sum over kept c of weight[r, c] * x[t, c] + bias[r]); strides in elements, any of them.
// x and out have the element type `dtype`, that of a float weight; the sum, the bias and the activation are fp32.
struct LinearCall {
    core::DType dtype = core::DType::F32;
    int64_t tokens = 0, rows = 0, cols = 0;
    const void* x = nullptr;
    int64_t x_token_stride = 0, x_column_stride = 1;
    void* out = nullptr;
    int64_t out_token_stride = 0, out_row_stride = 1;
    const float* bias = nullptr;  // [rows], already fp32; null: none
    Activation activation = Activation::None;
    int threads = 1;
};

static inline float load_x(const LinearCall& call, int64_t token, int64_t column) {
    return core::load_float(call.x, token * call.x_token_stride + column * call.x_column_stride, call.dtype);
}

// Bias, activation and the one rounding.
static inline void store_output(const LinearCall& call, int64_t token, int64_t row, float sum) {
    const float value = activate(sum + (call.bias != nullptr ? call.bias[row] : 0.0f), call.activation);
    core::store_float(call.out, token * call.out_token_stride + row * call.out_row_stride, call.dtype, value);
}

// The portable kernels work on this many tokens at a time.
constexpr int64_t kPortableTile = 8;

}  // namespace sparsecore::cpu
