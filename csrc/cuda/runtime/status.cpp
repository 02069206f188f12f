#include "cuda/runtime/status.h"

#include "core/error.h"

namespace sparsecore::cuda {

void throw_status(int status, const std::string& words, const char* where) {
    switch (status) {
        case kNoDevice:
        case kInsufficientDriver:
        case kUnsupportedPtxVersion:
        case kSystemDriverMismatch:
            throw core::Error("DriverError", words, where, "a CUDA driver of the toolkit's release or later",
                              "install or update the driver, or use tensors on the CPU");
        case kInvalidDeviceFunction:
        case kNoKernelImageForDevice:
            throw core::Error("ArchitectureError", words, where, "compute capability 8.0 or later",
                              "use a build for this GPU, or tensors on the CPU");
        case kMemoryAllocation:
            throw core::Error("DeviceMemoryError", words, where, "free device memory",
                              "free tensors, call torch.cuda.empty_cache(), or use fewer tokens");
        case kIllegalAddress:
        case kMisalignedAddress:
        case kLaunchFailure:
            // The context is lost with it: no later call can succeed.
            throw core::Error("LaunchError", "a kernel that was queued before has failed: " + words, where, "",
                              "start the process again; CUDA_LAUNCH_BLOCKING=1 shows which kernel it was");
        default: break;
    }
    if (status >= kStreamCaptureUnsupported && status <= kStreamCaptureWrongThread) {
        throw core::Error("LaunchError", "not possible while a CUDA graph is captured: " + words, where, "",
                          "call the layer once before the capture, and capture on one stream of one thread");
    }
    throw core::Error("LaunchError", "a CUDA call failed: " + words, where, "",
                      "an error of an earlier kernel may show up here: repeat with CUDA_LAUNCH_BLOCKING=1");
}

}  // namespace sparsecore::cuda
