// Numbers and metadata inside registers.
#pragma once

#include "core/dtype.h"
#include "cuda/emulator/thread.h"

namespace sparsecore::cuda::emulator {

inline std::uint16_t half_word(std::uint32_t word, int index) { return static_cast<std::uint16_t>(word >> (16 * index)); }

inline float number(std::uint16_t bits, bool brain) {
    return brain ? bits_to_float(static_cast<std::uint32_t>(bits) << 16) : core::f16_to_f32(bits);
}

// Column (of 16) of the kept value `index` (of 8) by 16 bits of 2:4 metadata. The two places of a group must ascend.
inline int kept_place(std::uint32_t metadata, int index) {
    const int place = static_cast<int>(metadata >> (2 * index) & 3);
    if (index % 2 == 1 && place <= static_cast<int>(metadata >> (2 * index - 2) & 3)) {
        fault("metadata of a sparse product that does not ascend within a group");
    }
    return index / 2 * 4 + place;
}

}  // namespace sparsecore::cuda::emulator
