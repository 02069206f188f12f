// Barriers in shared memory that count arrivals and bytes of asynchronous copies (sm_90 and later).
//
// A phase ends when all arrivals have come and all announced bytes have landed; the next one starts at once. Phases
// alternate in parity, the first has parity 0.
#pragma once

#include "cuda/ptx/thread.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

using MBarrier = std::uint64_t;

SC_DEVICE void init_mbarrier(MBarrier* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// Makes initialised barriers visible to the asynchronous copies; one thread, before the block barrier.
SC_DEVICE void fence_mbarrier_init() {
    asm volatile("fence.mbarrier_init.release.cluster; fence.proxy.async.shared::cta;" ::: "memory");
}
SC_DEVICE void arrive(MBarrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and announces `bytes` that asynchronous copies will bring.
SC_DEVICE void arrive_expecting(MBarrier* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}
// Waits for the end of the phase with this parity; threads of this block alone arrive, and asynchronous copies.
SC_DEVICE void wait_phase(MBarrier* barrier, int parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain_%=:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again_%=;\n}" ::"r"(shared_address(barrier)), "r"(parity)
        : "memory");
}

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/mbarrier.h"

#endif
