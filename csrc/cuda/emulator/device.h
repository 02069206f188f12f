// The emulated GPU that launches of .cu files run on: what it says of itself, how threads are scheduled, and faults on request.
#pragma once

#include "cuda/emulator/launch.h"

namespace sparsecore::cuda::emulator {

struct Device {
    int capability = 80, multiprocessors = 4;
    Schedule schedule;
    int next_status = 0;  // not 0: the next launch fails with this status of CUDA
    long launches = 0;    // so far
};

Device& device();

// What a block may have of shared memory, by CUDA's table of compute capabilities.
std::size_t most_shared_bytes(int capability);

// Counts a launch, or throws the named error of the status that was asked for, or of more shared memory than a block may have.
void begin_launch(const char* where, std::size_t shared);

}  // namespace sparsecore::cuda::emulator
