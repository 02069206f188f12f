// What becomes of a sum: sum * (x scale * weight scale) + bias in fp32, the activation, one rounding.
#pragma once

#include "cuda/common/linear_io.h"
#include "cuda/nm_linear/int8/args.h"

namespace sparsecore::cuda {

// T: element type of x and out.
template <class T, class Sum>
SC_DEVICE void store_scaled(const Int8Args& a, std::int64_t token, std::int64_t row, Sum sum) {
    const TwoFourArgs& call = a.call;
    float result = static_cast<float>(sum) * (a.x_scales[token] * a.scales[row]);
    if (call.bias != nullptr) {
        const std::int64_t place = row * call.bias_stride;
        result += a.bias_is_float ? static_cast<const float*>(call.bias)[place] : to_float(static_cast<const T*>(call.bias)[place]);
    }
    T* out = static_cast<T*>(call.out) + token * call.out_token_stride + row * call.out_row_stride;
    store(out, cuda::activate(result, call.activation));
}

}  // namespace sparsecore::cuda
