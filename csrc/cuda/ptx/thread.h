// The names in which kernels are written, so that one source has two builds: CUDA under nvcc, the emulator under a host
// compiler. This file: a thread's place, the block's shared memory and barriers, bits of numbers.
//
// ptx/ is the only folder with inline PTX. Its functions have the same meaning in both builds, which is that of the
// PTX ISA; csrc/cuda/emulator evaluates them from the ISA's layouts. Kernels use these functions and plain C++ only.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)

#include <cuda_fp16.h>

#define SC_GLOBAL __global__
#define SC_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define SC_DEVICE __device__ __forceinline__
#define SC_HOST_DEVICE __host__ __device__ __forceinline__  // for launches too
#define SC_UNROLL _Pragma("unroll")
#define SC_ROLLED _Pragma("unroll 1")

namespace sparsecore::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;

SC_DEVICE unsigned thread_x() { return threadIdx.x; }
SC_DEVICE unsigned block_x() { return blockIdx.x; }
SC_DEVICE unsigned block_y() { return blockIdx.y; }
SC_DEVICE unsigned block_z() { return blockIdx.z; }
SC_DEVICE unsigned block_dim_x() { return blockDim.x; }
SC_DEVICE unsigned grid_dim_x() { return gridDim.x; }
SC_DEVICE unsigned grid_dim_y() { return gridDim.y; }

// The dynamic shared memory of the block, aligned to 1024 bytes; T's size is what the launch asks for.
template <class T>
SC_DEVICE T& shared_memory() {
    extern __shared__ __align__(1024) unsigned char sparsecore_shared[];
    return *reinterpret_cast<T*>(sparsecore_shared);
}

SC_DEVICE void block_barrier() { __syncthreads(); }
// The same, and whether the predicate is true of any thread of the block.
SC_DEVICE bool block_barrier_any(bool predicate) { return __syncthreads_or(predicate) != 0; }
// A barrier of `threads` of the block's threads, whole warps; barriers of one id must not overlap. 0 is block_barrier's.
SC_DEVICE void named_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

SC_DEVICE float half_bits_to_float(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
SC_DEVICE std::uint16_t float_to_half_bits(float value) { return __half_as_ushort(__float2half_rn(value)); }
SC_DEVICE std::uint32_t float_bits(float value) { return __float_as_uint(value); }
SC_DEVICE float bits_to_float(std::uint32_t bits) { return __uint_as_float(bits); }
SC_DEVICE int count_bits(std::uint32_t bits) { return __popc(bits); }
SC_DEVICE int lowest_bit(std::uint32_t bits) { return __ffs(static_cast<int>(bits)) - 1; }

// Address of shared memory in the window that PTX instructions take.
SC_DEVICE std::uint32_t shared_address(const void* pointer) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/thread.h"

#define SC_GLOBAL
#define SC_BOUNDS(threads, blocks)
#define SC_DEVICE inline
#define SC_HOST_DEVICE inline
#define SC_UNROLL
#define SC_ROLLED

#endif
