// What CUDA's status codes mean to a user: plain C++, the same in every build.
#pragma once

#include <string>

namespace sparsecore::cuda {

// The values of cudaError_t that are named here; launch.h checks that they are CUDA's.
inline constexpr int kSuccess = 0, kInvalidValue = 1, kMemoryAllocation = 2, kInsufficientDriver = 35, kInvalidDeviceFunction = 98,
                     kNoDevice = 100, kNoKernelImageForDevice = 209, kUnsupportedPtxVersion = 222, kIllegalAddress = 700,
                     kMisalignedAddress = 716, kLaunchFailure = 719, kSystemDriverMismatch = 803, kStreamCaptureUnsupported = 900,
                     kStreamCaptureWrongThread = 908;

// Throws the named error of a status that is not kSuccess: CUDA's own words, where it happened, what to do. DriverError,
// ArchitectureError, DeviceMemoryError, or LaunchError for all that is left.
void throw_status(int status, const std::string& words, const char* where);

}  // namespace sparsecore::cuda
