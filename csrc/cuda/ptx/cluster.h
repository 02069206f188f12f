// Clusters (sm_90 and later): blocks that are neighbours in x run at the same time and reach each other's shared memory. A block must not
// end while others may still reach into it.
#pragma once

#include "cuda/ptx/tma.h"

#if defined(__CUDACC__)

namespace sparsecore::cuda {

// Of the calling block; a launch without clusters has clusters of one.
SC_DEVICE unsigned cluster_rank() {
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
SC_DEVICE unsigned cluster_size() {
    unsigned size;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
}

// All threads of all blocks of the cluster meet, and see what the others wrote before.
SC_DEVICE void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// Arrives at the barrier which the block `rank` of the cluster has in the place of `barrier`.
SC_DEVICE void arrive_in_block(MBarrier* barrier, unsigned rank) {
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}" ::"r"(shared_address(barrier)),
        "r"(rank)
        : "memory");
}

// wait_phase where other blocks arrive: what these did before is done for the caller. It empties the L1 cache, so few threads should wait so.
SC_DEVICE void wait_phase_of_cluster(MBarrier* barrier, int parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain_%=:\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again_%=;\n}" ::"r"(shared_address(barrier)), "r"(parity)
        : "memory");
}

// copy_tile for all blocks of the cluster at once: in each the box lands in the place of `to` and arrives in the place of `barrier`.
SC_DEVICE void copy_tile_to_cluster(void* to, const TensorMap* map, int column, int row, MBarrier* barrier) {
    const auto blocks = static_cast<std::uint16_t>((1u << cluster_size()) - 1u);
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
        " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier)), "h"(blocks)
        : "memory");
}

}  // namespace sparsecore::cuda

#else

#include "cuda/emulator/cluster.h"

#endif
