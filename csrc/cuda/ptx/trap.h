// Ending a kernel on input that has no meaning. The CUDA context is lost, as it is by a failed assertion of torch's kernels.
#pragma once

#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

// `why` is for readers of the source, and told by the emulator.
SC_DEVICE void trap(const char*) { __trap(); }

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/trap.h"

#endif
