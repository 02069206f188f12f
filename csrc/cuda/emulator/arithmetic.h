// ptx/arithmetic.h on the host.
#pragma once

#include <cmath>

#include "cuda/common/element.h"
#include "cuda/emulator/bits.h"
#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

inline float exp2_fast(float x) { return std::exp2(x); }

inline float multiply_rounded(float a, float b) { return a * b; }  // the build fuses nothing: -ffp-contract=off

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

inline void unpack_e4m3(std::uint32_t (&pairs)[2], std::uint32_t bytes) {
    for (int i = 0; i < 2; ++i) {
        const std::uint32_t places = e4m3_in_places_of_halves(choose_bytes(bytes, 0, i == 0 ? 0x1404u : 0x3424u));
        const auto number = [&](int shift) { return to_float(F16{static_cast<std::uint16_t>(places >> shift)}) * 256.0f; };
        pairs[i] = pack_pair<F16>(number(0), number(16));
    }
}

}  // namespace sparsecore::cuda
