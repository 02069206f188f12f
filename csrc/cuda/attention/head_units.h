// The score of a head: the sum of |x| over what it puts out (cpu/attention/scores.h), in units of 2^-20.
#pragma once

#include <cmath>

#include "cuda/ptx/thread.h"

namespace sparsecore::cuda {

constexpr float kScoreUnits = 1 << 20;  // of a probability or an output of 1

// What an element of the output counts: round(|x| 2^20), half to even, at most 2^31 - 1; NaN nothing.
SC_DEVICE std::uint32_t head_units(float stored) {
    const float units = rintf(fabsf(stored) * kScoreUnits);
    return units >= 2147483648.0f ? 2147483647u : units == units ? static_cast<std::uint32_t>(units) : 0u;
}

}  // namespace sparsecore::cuda
