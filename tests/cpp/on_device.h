// What the emulated GPU says of itself during a test.
#pragma once

#include "cuda/emulator/device.h"

namespace harness {

// The emulated device as one of this compute capability, until the end of the scope.
class OnDevice {
public:
    explicit OnDevice(int capability, int multiprocessors = 4) { become(capability, multiprocessors); }
    ~OnDevice() { become(80, 4); }
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

private:
    static void become(int capability, int multiprocessors) {
        auto& device = sparsecore::cuda::emulator::device();
        device.capability = capability;
        device.multiprocessors = multiprocessors;
    }
};

}  // namespace harness
