// The CUDA runtime is linked statically and opens the driver by itself at the first call: without a driver it answers
// with an error, and nothing of ours depends on libcuda being there.
#include "cuda/runtime/runtime.h"

#include <cuda_runtime.h>

namespace sparsecore::cuda {

RuntimeInfo runtime_info() {
    RuntimeInfo info;
    info.compiled = true;
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    for (int i = 0; status == cudaSuccess && i < count; ++i) {
        cudaDeviceProp properties;
        status = cudaGetDeviceProperties(&properties, i);
        if (status != cudaSuccess) break;
        info.devices.push_back({properties.name, properties.major, properties.minor, properties.multiProcessorCount,
                                static_cast<int64_t>(properties.totalGlobalMem)});
    }
    if (status != cudaSuccess) {
        int driver = 0;  // its version; 0: none is installed
        const bool none = cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0;
        info.reason = none ? "no CUDA driver" : cudaGetErrorString(status);
        cudaGetLastError();  // the error is told; it must not stick to the next call
    } else if (count == 0) {
        info.reason = "no CUDA device";
    }
    info.available = info.reason.empty();
    return info;
}

}  // namespace sparsecore::cuda
