#include "cuda/runtime/device_memory.h"

#include "cuda/runtime/launch.h"

namespace sparsecore::cuda {

DeviceBytes::DeviceBytes(const Bytes& content) : size_(content.size()) {
    check(cudaMalloc(&data_, size_), "cudaMalloc");
    check(cudaMemcpy(data_, content.data(), size_, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
}

DeviceBytes::~DeviceBytes() { cudaFree(data_); }

Bytes DeviceBytes::read() const {
    Bytes content(size_);
    check(cudaMemcpy(content.data(), data_, size_, cudaMemcpyDeviceToHost), "cudaMemcpy to the host");
    return content;
}

void synchronize() { check(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

}  // namespace sparsecore::cuda
