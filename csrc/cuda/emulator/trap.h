// ptx/trap.h on the host.
#pragma once

#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

inline void trap(const char* why) { emulator::fault(why); }

}  // namespace sparsecore::cuda
