// ptx/cluster.h on the host.
#pragma once

#include "cuda/emulator/tma.h"

namespace sparsecore::cuda {

inline unsigned cluster_rank() { return emulator::rank_in_cluster(); }
inline unsigned cluster_size() { return emulator::launch_shape().cluster; }
inline void cluster_barrier() { emulator::meet_in_cluster(); }

inline void arrive_in_block(MBarrier* barrier, unsigned rank) {
    emulator::PhaseBarrier& there = emulator::phase_barrier(emulator::in_block(barrier, rank));
    there.of_cluster |= rank != cluster_rank();
    there.advance(1, 0);
}
inline void wait_phase_of_cluster(MBarrier* barrier, int parity) { emulator::wait_parity(emulator::phase_barrier(barrier), parity); }

inline void copy_tile_to_cluster(void* to, const TensorMap* map, int column, int row, MBarrier* barrier) {
    for (unsigned rank = 0; rank < cluster_size(); ++rank) {
        emulator::copy_box(emulator::in_block(to, rank), map, column, row, 0, 0, emulator::in_block(barrier, rank));
    }
}

}  // namespace sparsecore::cuda
