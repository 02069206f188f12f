// Bits of 32-bit words.
#pragma once

#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

// Zeros where `by` is 32 or more, which an ordinary shift leaves undefined; a negative difference counts as more.
SC_DEVICE std::uint32_t shift_left(std::uint32_t word, std::uint32_t by) {
    std::uint32_t shifted;
    asm("shl.b32 %0, %1, %2;" : "=r"(shifted) : "r"(word), "r"(by));
    return shifted;
}

// By the five lowest bits of `by`; the others do not matter.
SC_DEVICE std::uint32_t shift_left_wrapped(std::uint32_t word, std::uint32_t by) {
    std::uint32_t shifted;
    asm("shf.l.wrap.b32 %0, 0, %1, %2;" : "=r"(shifted) : "r"(word), "r"(by));
    return shifted;
}

// Four of the eight bytes of `low` (0 to 3) and `high` (4 to 7), chosen by the four lowest nibbles of `selector`, each 0 to 7.
SC_DEVICE std::uint32_t choose_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
    std::uint32_t chosen;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(chosen) : "r"(low), "r"(high), "r"(selector));
    return chosen;
}

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/bits.h"

#endif
