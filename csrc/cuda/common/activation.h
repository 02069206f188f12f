// The activations of the linear kernels on the device: the formulas of cpu/common/epilogue.h.
#pragma once

#include <cmath>

#include "cpu/common/epilogue.h"
#include "cuda/ptx/thread.h"

namespace sparsecore::cuda {

using cpu::Activation;

SC_DEVICE float activate(float x, Activation activation) {
    switch (activation) {
        case Activation::Relu:
            return x < 0.0f ? 0.0f : x;
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
