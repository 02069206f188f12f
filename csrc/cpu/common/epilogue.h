// What every linear kernel does with a finished fp32 sum: add the bias, apply the activation, round once.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "core/error.h"

namespace sparsecore::cpu {

enum class Activation : uint32_t { None = 0, Relu = 1, Gelu = 2, GeluTanh = 3, Silu = 4 };

// The names of torch: "none", "relu", "gelu" (erf), "gelu_tanh", "silu"; anything else is UnknownNameError.
inline Activation parse_activation(const std::string& name) {
    if (name == "none") return Activation::None;
    if (name == "relu") return Activation::Relu;
    if (name == "gelu") return Activation::Gelu;
    if (name == "gelu_tanh") return Activation::GeluTanh;
    if (name == "silu") return Activation::Silu;
    throw core::Error("UnknownNameError", "unknown activation '" + name + "'", "activation",
                      "none, relu, gelu, gelu_tanh or silu");
}

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
