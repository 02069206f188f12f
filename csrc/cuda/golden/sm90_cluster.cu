// Clusters: ptx/cluster.h. Each of two blocks brings half of a tile for both, and counts the other's arrivals.
#include "cuda/golden/case.h"
#include "cuda/ptx/cluster.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda::golden {

namespace {

constexpr int kThreads = 64, kBlocks = 2, kClusters = 2, kRows = 16, kElements = 64;

struct ClusterInput {
    alignas(128) std::uint16_t rows[kClusters][kRows][kElements];
};

struct ClusterOutput {
    std::uint16_t rows[kClusters][kBlocks][kRows][kElements];  // as they lie in shared memory
    std::uint32_t rank[kClusters * kBlocks], size[kClusters * kBlocks];
};

struct ClusterShared {
    std::uint16_t rows[kRows][kElements];
    MBarrier full, seen;
};

SC_GLOBAL void SC_BOUNDS(kThreads, 1) cluster_kernel(ClusterOutput* out, SC_TENSOR_MAP map) {
    auto& shared = shared_memory<ClusterShared>();
    const unsigned rank = cluster_rank(), size = cluster_size(), block = block_x();
    if (thread_x() == 0) {
        init_mbarrier(&shared.full, 1);
        init_mbarrier(&shared.seen, kBlocks * kThreads);
        fence_mbarrier_init();
    }
    cluster_barrier();
    if (thread_x() == 0) {
        const int first = static_cast<int>(rank) * (kRows / kBlocks);
        arrive_expecting(&shared.full, sizeof shared.rows);
        copy_tile_to_cluster(&shared.rows[first], &map, 0, static_cast<int>(block / kBlocks) * kRows + first, &shared.full);
    }
    wait_phase(&shared.full, 0);
    for (unsigned i = thread_x(); i < kRows * kElements; i += kThreads) {
        out->rows[block / kBlocks][rank][i / kElements][i % kElements] = (&shared.rows[0][0])[i];
    }
    out->rank[block] = rank;
    out->size[block] = size;
    for (unsigned other = 0; other < size; ++other) arrive_in_block(&shared.seen, other);
    wait_phase_of_cluster(&shared.seen, 0);  // neither block ends before all have read
    cluster_barrier();
}

struct Cluster : Plain<Cluster> {
    static constexpr int kCapability = 90;
    using Input = ClusterInput;
    using Output = ClusterOutput;
    static void launch(const Input* in, Output* out) {
        const TensorMap map = matrix_map(in->rows, kClusters * kRows, kElements, kElements, kRows / kBlocks);
        launch_clusters("golden vectors", cluster_kernel, kBlocks, Grid{kClusters * kBlocks}, kThreads, sizeof(ClusterShared), 0, out, map);
    }
    static void draw(Random& random, Input& in) {
        for (auto& cluster : in.rows) {
            for (auto& row : cluster) {
                for (std::uint16_t& element : row) element = static_cast<std::uint16_t>(random.bits());
            }
        }
    }
};

}  // namespace

std::vector<Case> cluster_cases() { return {make_case<Cluster>("cluster", "barrier.cluster, cp.async.bulk.tensor.2d.multicast::cluster")}; }

}  // namespace sparsecore::cuda::golden
