#include "cuda/runtime/device_memory.h"

#include <algorithm>
#include <new>

namespace sparsecore::cuda {

namespace {

constexpr std::align_val_t kAlignment{256};

}  // namespace

DeviceBytes::DeviceBytes(const Bytes& content) : data_(::operator new(content.size(), kAlignment)), size_(content.size()) {
    std::copy(content.begin(), content.end(), static_cast<unsigned char*>(data_));
}

DeviceBytes::~DeviceBytes() { ::operator delete(data_, kAlignment); }

Bytes DeviceBytes::read() const {
    const auto* bytes = static_cast<const unsigned char*>(data_);
    return {bytes, bytes + size_};
}

void synchronize() {}

}  // namespace sparsecore::cuda
