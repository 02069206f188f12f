// What the tensor-core kernels share: activations on their way to shared memory.
#pragma once

#include "cuda/common/linear_io.h"
#include "cuda/ptx/async_copy.h"

namespace sparsecore::cuda {

// Brings kUnit columns of a token to shared memory: by an asynchronous copy where they can be read as one unit.
SC_DEVICE void fetch_unit(const LinearArgs& a, std::uint16_t* to, std::int64_t token, std::int64_t column) {
    if (!a.x_in_units) {
        for (int e = 0; e < kUnit; ++e) to[e] = load_element(a, token, column + e);
        return;
    }
    const std::int64_t left = token < a.tokens ? a.cols - column : 0;
    const int elements = left <= 0 ? 0 : left < kUnit ? static_cast<int>(left) : kUnit;
    const auto* x = static_cast<const std::uint16_t*>(a.x);
    copy_async_16(to, elements > 0 ? x + token * a.x_token_stride + column : x, elements * 2);
}

// For weights whose columns are those of x.
struct OwnColumns {
    static SC_DEVICE void fetch(const LinearArgs& a, std::int64_t, std::uint16_t* to, std::int64_t token, std::int64_t column) {
        fetch_unit(a, to, token, column);
    }
};

}  // namespace sparsecore::cuda
