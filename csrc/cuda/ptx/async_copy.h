// Copies from global to shared memory that run beside the computation (sm_80 and later).
#pragma once

#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

// Copies 16 bytes, of which the last 16 - `bytes` become zeros; both addresses are multiples of 16. The source is not
// read where `bytes` is 0.
SC_DEVICE void copy_async_16(void* to, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
// The same for 4 bytes and addresses that are multiples of 4.
SC_DEVICE void copy_async_4(void* to, const void* from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
// Closes the group of this thread's copies since the last call.
SC_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `kPending` of this thread's groups are under way.
template <int kPending>
SC_DEVICE void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Shows what this thread wrote to shared memory, by stores or by copies that it has waited for, to tile copies and warpgroup
// products (sm_90 and later), which do not see it otherwise; before the barrier behind which they start.
SC_DEVICE void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/async_copy.h"

#endif
