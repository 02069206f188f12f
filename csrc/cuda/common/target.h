// The few names in which kernel sources are written, so that one source has two builds.
//
// Under nvcc they are CUDA itself. Under a host compiler they are the emulator, which runs every thread of a block as
// a fiber; a kernel that passes there has the index arithmetic, bounds and warp exchanges right, which is what a machine
// without a GPU can check. Kernels use these names and plain C++ only.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)

#include <cuda_fp16.h>

#define SC_GLOBAL __global__
#define SC_DEVICE __device__ __forceinline__
#define SC_UNROLL _Pragma("unroll")

namespace sparsecore::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;

SC_DEVICE unsigned thread_x() { return threadIdx.x; }
SC_DEVICE unsigned block_x() { return blockIdx.x; }
SC_DEVICE unsigned block_y() { return blockIdx.y; }
SC_DEVICE unsigned block_dim_x() { return blockDim.x; }
SC_DEVICE unsigned grid_dim_y() { return gridDim.y; }
SC_DEVICE float shuffle_xor(float value, int lane_mask) { return __shfl_xor_sync(kFullWarp, value, lane_mask); }
SC_DEVICE float half_bits_to_float(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
SC_DEVICE std::uint16_t float_to_half_bits(float value) { return __half_as_ushort(__float2half_rn(value)); }
SC_DEVICE std::uint32_t float_bits(float value) { return __float_as_uint(value); }
SC_DEVICE float bits_to_float(std::uint32_t bits) { return __uint_as_float(bits); }

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/emulator.h"

#define SC_GLOBAL
#define SC_DEVICE inline
#define SC_UNROLL

#endif
