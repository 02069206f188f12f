// Launching a kernel and telling what went wrong; for .cu files.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "core/error.h"

namespace sparsecore::cuda {

// Throws the named error for a status: where it happened, CUDA's own words, what to do.
inline void check(cudaError_t status, const char* where) {
    if (status == cudaSuccess) return;
    const std::string words = std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
    switch (status) {
        case cudaErrorNoDevice:
        case cudaErrorInsufficientDriver:
            throw core::Error("UnsupportedError", words, where, "a CUDA driver of the toolkit's release or later",
                              "update the driver, or use tensors on the CPU");
        case cudaErrorNoKernelImageForDevice:
            throw core::Error("UnsupportedError", words, where, "compute capability 8.0 or later",
                              "use a build for this GPU, or tensors on the CPU");
        case cudaErrorMemoryAllocation:
            throw core::Error("UnsupportedError", words, where, "free device memory", "free tensors or use fewer tokens");
        default:
            throw core::Error("UnsupportedError", "a CUDA call failed: " + words, where, "",
                              "an error of an earlier kernel may show up here: repeat with CUDA_LAUNCH_BLOCKING=1");
    }
}

// Queues kernel<<<grid, threads, shared>>>(arguments) and checks the launch. Errors of earlier, foreign calls are not told as ours.
template <class Kernel, class... Arguments>
void launch(const char* where, Kernel kernel, dim3 grid, unsigned threads, std::size_t shared, std::uint64_t stream,
            const Arguments&... arguments) {
    constexpr std::size_t kWithoutAsking = 48 * 1024;
    cudaGetLastError();
    if (shared > kWithoutAsking) {
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), where);
    }
    kernel<<<grid, threads, shared, reinterpret_cast<cudaStream_t>(stream)>>>(arguments...);
    check(cudaGetLastError(), where);
}

}  // namespace sparsecore::cuda
