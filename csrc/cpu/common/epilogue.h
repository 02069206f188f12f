// The activations of the linear kernels. No C++ library templates here or below: kernel files of every instruction set
// include it.
#pragma once

#include <cmath>
#include <cstdint>

namespace sparsecore::cpu {

enum class Activation : uint32_t { None = 0, Relu = 1, Gelu = 2, GeluTanh = 3, Silu = 4 };

// The formulas of torch.nn.functional in fp32. NaN stays NaN, also through relu.
static inline float activate(float x, Activation activation) {
    switch (activation) {
        case Activation::Relu:
            return x < 0.0f ? 0.0f : x;
        case Activation::Gelu:
            return 0.5f * x * (1.0f + std::erf(x * 0.70710678118654752f));
        case Activation::GeluTanh:
            return 0.5f * x * (1.0f + std::tanh(0.79788456080286536f * (x + 0.044715f * x * x * x)));
        case Activation::Silu:
            return x / (1.0f + std::exp(-x));
        default:
            return x;
    }
}

}  // namespace sparsecore::cpu
