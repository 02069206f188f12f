// Asking for memory that will be read soon (sm_80 and later).
#pragma once

#include "cuda/ptx/thread.h"

namespace sparsecore::cuda {

constexpr int kSectorBytes = 32;

// Brings the sector of an address in global memory to the second-level cache; no register waits for it.
#if defined(__CUDACC__)
SC_DEVICE void prefetch(const void* address) { asm volatile("prefetch.global.L2 [%0];" ::"l"(address)); }
#else
inline void prefetch(const void*) {}
#endif

}  // namespace sparsecore::cuda
