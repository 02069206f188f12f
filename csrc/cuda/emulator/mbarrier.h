// ptx/mbarrier.h on the host: the state is kept beside the barrier's address.
#pragma once

#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

using MBarrier = std::uint64_t;

inline void init_mbarrier(MBarrier* barrier, int arrivals) { emulator::create_phase_barrier(barrier, arrivals); }
inline void fence_mbarrier_init() {}
inline void arrive(MBarrier* barrier) { emulator::phase_barrier(barrier).advance(1, 0); }
inline void arrive_expecting(MBarrier* barrier, int bytes) { emulator::phase_barrier(barrier).advance(1, bytes); }

namespace emulator {

inline void wait_parity(const PhaseBarrier& barrier, int parity) {
    const std::uint64_t& phases = barrier.phases;
    // The phase under way has the parity of the number of those that have ended.
    while (static_cast<int>(phases & 1) == parity) wait_while(&phases, phases, "mbarrier.try_wait");
}

}  // namespace emulator

inline void wait_phase(MBarrier* barrier, int parity) {
    const emulator::PhaseBarrier& phases = emulator::phase_barrier(barrier);
    emulator::wait_parity(phases, parity);
    if (phases.of_cluster) emulator::fault("a wait within the block for threads of other blocks");
}

}  // namespace sparsecore::cuda
