#include "cuda/runtime/status.h"

#include "core/error.h"

namespace sparsecore::cuda {

void throw_status(int status, const std::string& words, const char* where) {
    switch (status) {
        case kNoDevice:
        case kInsufficientDriver:
            throw core::Error("UnsupportedError", words, where, "a CUDA driver of the toolkit's release or later",
                              "update the driver, or use tensors on the CPU");
        case kNoKernelImageForDevice:
            throw core::Error("UnsupportedError", words, where, "compute capability 8.0 or later",
                              "use a build for this GPU, or tensors on the CPU");
        case kMemoryAllocation:
            throw core::Error("UnsupportedError", words, where, "free device memory", "free tensors or use fewer tokens");
        default:
            throw core::Error("UnsupportedError", "a CUDA call failed: " + words, where, "",
                              "an error of an earlier kernel may show up here: repeat with CUDA_LAUNCH_BLOCKING=1");
    }
}

}  // namespace sparsecore::cuda
