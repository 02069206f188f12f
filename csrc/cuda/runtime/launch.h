// Launching a kernel and telling what went wrong; for .cu files, which name no other part of the CUDA runtime. They have two builds
// as the kernels have: under nvcc launch() queues on a stream, under a host compiler it runs the kernel by the emulator.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/runtime/status.h"

namespace sparsecore::cuda {

// Blocks of a launch.
struct Grid {
    unsigned x = 1, y = 1, z = 1;
};

// A grid's y or z for `count` blocks: at most what the hardware takes; the kernel loops over the rest.
inline unsigned at_most_grid_y(std::int64_t count) {
    constexpr std::int64_t kMost = 65535;
    return static_cast<unsigned>(count < kMost ? count : kMost);
}

// The same for a grid's x.
inline unsigned at_most_grid_x(std::int64_t count) {
    constexpr std::int64_t kMost = 2147483647;
    return static_cast<unsigned>(count < kMost ? count : kMost);
}

// Of the current device: compute capability times ten (80, 89, 90, ...), and streaming multiprocessors.
int capability();
int multiprocessors();

// The shared memory of a block in a launch on any GPU from sm_80 on: those of 8.6, 8.9 and 12.x give a block 99 KB.
template <class Shared>
constexpr std::size_t shared_bytes() {
    static_assert(sizeof(Shared) <= 99 << 10, "more shared memory than some GPUs have for a block");
    return sizeof(Shared);
}

// The same on Hopper alone.
template <class Shared>
constexpr std::size_t hopper_shared_bytes() {
    static_assert(sizeof(Shared) <= 227 << 10, "more shared memory than Hopper has for a block");
    return sizeof(Shared);
}

}  // namespace sparsecore::cuda

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include <string>

namespace sparsecore::cuda {

static_assert(kSuccess == cudaSuccess && kInvalidValue == cudaErrorInvalidValue && kMemoryAllocation == cudaErrorMemoryAllocation &&
              kInsufficientDriver == cudaErrorInsufficientDriver && kInvalidDeviceFunction == cudaErrorInvalidDeviceFunction &&
              kNoDevice == cudaErrorNoDevice && kNoKernelImageForDevice == cudaErrorNoKernelImageForDevice &&
              kUnsupportedPtxVersion == cudaErrorUnsupportedPtxVersion && kIllegalAddress == cudaErrorIllegalAddress &&
              kMisalignedAddress == cudaErrorMisalignedAddress && kLaunchFailure == cudaErrorLaunchFailure &&
              kSystemDriverMismatch == cudaErrorSystemDriverMismatch &&
              kStreamCaptureUnsupported == cudaErrorStreamCaptureUnsupported &&
              kStreamCaptureWrongThread == cudaErrorStreamCaptureWrongThread);

inline void check(cudaError_t status, const char* where) {
    if (status == cudaSuccess) return;
    throw_status(status, std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status), where);
}

// Queues kernel<<<grid, threads, shared>>>(arguments) and checks the launch. Errors of earlier, foreign calls are not told as ours.
template <class Kernel, class... Arguments>
void launch(const char* where, Kernel kernel, Grid grid, unsigned threads, std::size_t shared, std::uint64_t stream,
            const Arguments&... arguments) {
    constexpr std::size_t kWithoutAsking = 48 * 1024;
    cudaGetLastError();
    if (shared > kWithoutAsking) {
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), where);
    }
    kernel<<<dim3(grid.x, grid.y, grid.z), threads, shared, reinterpret_cast<cudaStream_t>(stream)>>>(arguments...);
    check(cudaGetLastError(), where);
}

// The same in clusters of `cluster` blocks, which divide grid.x (sm_90 and later).
template <class... Parameters>
void launch_clusters(const char* where, void (*kernel)(Parameters...), unsigned cluster, Grid grid, unsigned threads,
                     std::size_t shared, std::uint64_t stream, const Parameters&... arguments) {
    cudaGetLastError();
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), where);
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {cluster, 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(grid.x, grid.y, grid.z);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = reinterpret_cast<cudaStream_t>(stream);
    config.attrs = &attribute;
    config.numAttrs = 1;
    check(cudaLaunchKernelEx(&config, kernel, arguments...), where);
}

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/device.h"

namespace sparsecore::cuda {

template <class Kernel, class... Arguments>
void launch(const char* where, Kernel kernel, Grid grid, unsigned threads, std::size_t shared, std::uint64_t,
            const Arguments&... arguments) {
    emulator::begin_launch(where, shared);
    emulator::launch({{grid.x, grid.y, grid.z}, threads, shared}, emulator::device().schedule, [&] { kernel(arguments...); });
}

template <class... Parameters>
void launch_clusters(const char* where, void (*kernel)(Parameters...), unsigned cluster, Grid grid, unsigned threads,
                     std::size_t shared, std::uint64_t, const Parameters&... arguments) {
    emulator::begin_launch(where, shared);
    emulator::launch({{grid.x, grid.y, grid.z}, threads, shared, cluster}, emulator::device().schedule, [&] { kernel(arguments...); });
}

}  // namespace sparsecore::cuda

#endif
