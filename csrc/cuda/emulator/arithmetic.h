// ptx/arithmetic.h on the host.
#pragma once

#include <cmath>

#include "cuda/common/element.h"
#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

inline float exp2_fast(float x) { return std::exp2(x); }

template <class T>
std::uint32_t pack_pair(float low, float high) {
    T pair[2];
    store(&pair[0], low);
    store(&pair[1], high);
    return pair[0].bits | static_cast<std::uint32_t>(pair[1].bits) << 16;
}

inline std::uint32_t pack_e4m3(float low, float high) {
    E4M3 pair[2];
    store(&pair[0], low);
    store(&pair[1], high);
    return pair[0].bits | static_cast<std::uint32_t>(pair[1].bits) << 8;
}

}  // namespace sparsecore::cuda
