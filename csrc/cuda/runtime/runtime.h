// What this build and this machine can do with CUDA. Never fails: what is missing is told in `reason`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sparsecore::cuda {

struct DeviceInfo {
    std::string name;
    int major = 0, minor = 0;  // compute capability
    int multiprocessors = 0;
    int64_t memory_bytes = 0;
};

struct RuntimeInfo {
    bool compiled = false;
    bool available = false;  // compiled, a driver, and at least one device
    std::string reason;      // why not available; empty if it is
    std::vector<DeviceInfo> devices;
};

RuntimeInfo runtime_info();

}  // namespace sparsecore::cuda
