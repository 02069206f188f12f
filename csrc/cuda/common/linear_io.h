// Activations in and results out of the linear kernels, 16-bit elements, 16 bytes at a time where the strides allow it.
#pragma once

#include "cuda/common/activation.h"
#include "cuda/common/element.h"
#include "cuda/common/linear_args.h"
#include "cuda/common/words.h"

namespace sparsecore::cuda {

// Zero outside the matrix.
SC_DEVICE std::uint16_t load_element(const LinearArgs& a, std::int64_t token, std::int64_t column) {
    if (token >= a.tokens || column >= a.cols) return 0;
    return static_cast<const std::uint16_t*>(a.x)[token * a.x_token_stride + column * a.x_column_stride];
}

// Columns `column`, a multiple of 8, to `column` + 7.
SC_DEVICE Words4 load_unit(const LinearArgs& a, std::int64_t token, std::int64_t column) {
    if (a.x_in_units && token < a.tokens && column + kUnit <= a.cols) {
        const auto* x = static_cast<const std::uint16_t*>(a.x) + token * a.x_token_stride + column;
        return *reinterpret_cast<const Words4*>(x);
    }
    Words4 unit;
SC_UNROLL
    for (int i = 0; i < kUnit / 2; ++i) {
        unit.word[i] = load_element(a, token, column + 2 * i) |
                       static_cast<std::uint32_t>(load_element(a, token, column + 2 * i + 1)) << 16;
    }
    return unit;
}

template <class T>
SC_DEVICE float load_bias(const LinearArgs& a, std::int64_t row) {
    return a.bias != nullptr && row < a.rows ? to_float(static_cast<const T*>(a.bias)[row * a.bias_stride]) : 0.0f;
}

// Bias and activation in fp32, and the one rounding.
template <class T>
SC_DEVICE void store_result(const LinearArgs& a, std::int64_t token, std::int64_t row, float sum) {
    T* out = static_cast<T*>(a.out) + token * a.out_token_stride + row * a.out_row_stride;
    store(out, cuda::activate(sum + load_bias<T>(a, row), a.activation));
}

// Writes the results of 8 rows from `row`, a multiple of 8, on; they lie rounded at `from`, a multiple of 16 bytes.
SC_DEVICE void write_unit(const LinearArgs& a, const std::uint16_t* from, std::int64_t token, std::int64_t row) {
    if (token >= a.tokens) return;
    auto* out = static_cast<std::uint16_t*>(a.out) + token * a.out_token_stride;
    if (a.out_in_units && row + kUnit <= a.rows) {
        *reinterpret_cast<Words4*>(out + row) = *reinterpret_cast<const Words4*>(from);
        return;
    }
    for (int i = 0; i < kUnit && row + i < a.rows; ++i) out[(row + i) * a.out_row_stride] = from[i];
}

}  // namespace sparsecore::cuda
