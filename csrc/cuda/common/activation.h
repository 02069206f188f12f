// The activations of the linear kernels, in fp32, with the formulas of torch.nn.functional.
#pragma once

#include <cmath>

#include "cuda/common/target.h"

namespace sparsecore::cuda {

enum class Activation : int { None = 0, Relu = 1, Gelu = 2, GeluTanh = 3, Silu = 4 };

SC_DEVICE float activate(float x, Activation activation) {
    switch (activation) {
        case Activation::Relu:
            return x > 0.0f || x != x ? x : 0.0f;
        case Activation::Gelu:
            return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
        case Activation::GeluTanh:
            return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
        case Activation::Silu:
            return x / (1.0f + expf(-x));
        default:
            return x;
    }
}

}  // namespace sparsecore::cuda
