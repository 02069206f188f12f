// Reductions over a warp in one instruction (sm_80 and later); all 32 lanes take part and get the result.
#pragma once

#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

SC_DEVICE std::uint32_t reduce_add(std::uint32_t value) { return __reduce_add_sync(kFullWarp, value); }
SC_DEVICE std::uint32_t reduce_or(std::uint32_t value) { return __reduce_or_sync(kFullWarp, value); }

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/reduce.h"

#endif
