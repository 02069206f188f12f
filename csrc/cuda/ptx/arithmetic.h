// Arithmetic that takes one instruction and has no name in C++.
#pragma once

#include "cuda/common/element.h"
#include "cuda/ptx/bits.h"
#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

// 2^x with a relative error of at most 2^-22; subnormal numbers count as zero.
SC_DEVICE float exp2_fast(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

// a * b rounded by itself: nvcc fuses the products of C++ with what is added to them. What may only be compared with or taken off
// another product when both are rounded alike needs this one.
SC_DEVICE float multiply_rounded(float a, float b) { return __fmul_rn(a, b); }

// Two numbers rounded to T side by side, `low` in the low half word.
template <class T>
SC_DEVICE std::uint32_t pack_pair(float low, float high) {
    std::uint32_t pair;
    if constexpr (T::kBrain) {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    } else {
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    }
    return pair;
}

// Two numbers rounded to E4M3 side by side, `low` in the low byte; beyond 448 they are 448. One instruction on sm_89 and later.
SC_DEVICE std::uint32_t pack_e4m3(float low, float high) {
#if __CUDA_ARCH__ >= 890
    std::uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
#else
    E4M3 pair[2];
    store(&pair[0], low);
    store(&pair[1], high);
    return pair[0].bits | static_cast<std::uint32_t>(pair[1].bits) << 8;
#endif
}

// Four E4M3 numbers, none NaN, as two pairs of f16, which has all of them. An instruction a pair on sm_89 and later.
SC_DEVICE void unpack_e4m3(std::uint32_t (&pairs)[2], std::uint32_t bytes) {
#if __CUDA_ARCH__ >= 890
    asm("{ .reg .b16 low, high;"
        " mov.b32 {low, high}, %2; cvt.rn.f16x2.e4m3x2 %0, low; cvt.rn.f16x2.e4m3x2 %1, high; }"
        : "=r"(pairs[0]), "=r"(pairs[1])
        : "r"(bytes));
#else
    constexpr std::uint32_t k256 = 0x5c005c00u;
    const std::uint32_t low = e4m3_in_places_of_halves(choose_bytes(bytes, 0, 0x1404u));
    const std::uint32_t high = e4m3_in_places_of_halves(choose_bytes(bytes, 0, 0x3424u));
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(pairs[0]) : "r"(low), "r"(k256));
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(pairs[1]) : "r"(high), "r"(k256));
#endif
}

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/arithmetic.h"

#endif
