// ptx/bits.h on the host.
#pragma once

#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

inline std::uint32_t shift_left(std::uint32_t word, std::uint32_t by) { return by < 32 ? word << by : 0; }

inline std::uint32_t shift_left_wrapped(std::uint32_t word, std::uint32_t by) { return word << (by & 31u); }

inline std::uint32_t choose_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
    std::uint32_t chosen = 0;
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t nibble = selector >> (4 * i) & 15;
        if (nibble > 7) emulator::fault("prmt: a selector that replicates a sign");
        const std::uint32_t byte = (nibble < 4 ? low : high) >> (8 * (nibble % 4)) & 0xff;
        chosen |= byte << (8 * i);
    }
    return chosen;
}

}  // namespace sparsecore::cuda
