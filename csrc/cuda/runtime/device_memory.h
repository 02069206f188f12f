// Device memory and waiting, for programs of their own: operators get their memory from torch. Host memory under the emulator.
#pragma once

#include <cstddef>
#include <vector>

namespace sparsecore::cuda {

using Bytes = std::vector<unsigned char>;

// Bytes on the current device, from a multiple of 256 on. Every function throws the named error of a CUDA call that fails.
class DeviceBytes {
public:
    explicit DeviceBytes(const Bytes& content);
    ~DeviceBytes();
    DeviceBytes(const DeviceBytes&) = delete;
    DeviceBytes& operator=(const DeviceBytes&) = delete;

    void* get() const { return data_; }
    Bytes read() const;  // after all that was queued on the default stream

private:
    void* data_ = nullptr;
    std::size_t size_;
};

// Waits for all work on the current device, and throws the error of a kernel that failed.
void synchronize();

}  // namespace sparsecore::cuda
