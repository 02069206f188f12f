// Exchanges within a warp; all 32 lanes take part.
#pragma once

#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

template <class T>
SC_DEVICE T shuffle_xor(T value, int lane_mask) {
    return __shfl_xor_sync(kFullWarp, value, lane_mask);
}
template <class T>
SC_DEVICE T shuffle(T value, int lane) {
    return __shfl_sync(kFullWarp, value, lane);
}
// The value of the lane `delta` below; lanes without one keep their own.
template <class T>
SC_DEVICE T shuffle_up(T value, unsigned delta) {
    return __shfl_up_sync(kFullWarp, value, delta);
}
// Bit i: the predicate of lane i.
SC_DEVICE std::uint32_t ballot(bool predicate) { return __ballot_sync(kFullWarp, predicate); }
SC_DEVICE void warp_barrier() { __syncwarp(); }

// Atomic operations on shared or global memory; the old value is returned.
SC_DEVICE std::uint32_t atomic_add(std::uint32_t* where, std::uint32_t value) { return atomicAdd(where, value); }
SC_DEVICE std::int32_t atomic_add(std::int32_t* where, std::int32_t value) { return atomicAdd(where, value); }
SC_DEVICE std::uint64_t atomic_add(std::uint64_t* where, std::uint64_t value) {
    return atomicAdd(reinterpret_cast<unsigned long long*>(where), static_cast<unsigned long long>(value));
}
SC_DEVICE std::uint32_t atomic_or(std::uint32_t* where, std::uint32_t bits) { return atomicOr(where, bits); }
SC_DEVICE std::uint32_t atomic_max(std::uint32_t* where, std::uint32_t value) { return atomicMax(where, value); }

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/warp.h"

#endif
