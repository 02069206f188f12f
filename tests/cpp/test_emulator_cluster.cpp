// Clusters on the emulator: what blocks bring each other, and what a GPU would leave undefined.
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/ptx/cluster.h"
#include "harness.h"

using namespace sparsecore::cuda;

namespace {

constexpr unsigned kBlocks = 4, kThreads = 64;
constexpr int kRows = 32, kShare = kRows / static_cast<int>(kBlocks), kElements = 64;

struct Shared {
    alignas(1024) std::uint16_t rows[kRows][kElements];
    MBarrier full, seen;
};

std::string fault_of(unsigned cluster, unsigned blocks, const std::function<void()>& kernel) {
    try {
        emulator::launch({{blocks}, kThreads, sizeof(Shared), cluster}, {}, kernel);
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return "none";
}

bool holds(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST(emulator_brings_a_tile_to_all_blocks_of_a_cluster) {
    std::vector<std::uint16_t> matrix(2 * kRows * kElements);
    for (auto& element : matrix) element = static_cast<std::uint16_t>(harness::integer(0, 65535));
    const auto matrix_start = reinterpret_cast<std::uintptr_t>(matrix.data()) % 16;
    CHECK(matrix_start == 0);
    const TensorMap map{matrix.data(), kElements, 2 * kRows, kElements, kShare};
    for (const auto schedule : emulator::kSchedules) {
        int blocks = 0;
        emulator::launch({{2 * kBlocks}, kThreads, sizeof(Shared), kBlocks}, schedule, [&] {
            auto& shared = shared_memory<Shared>();
            const int first = static_cast<int>(block_x() / kBlocks) * kRows, own = static_cast<int>(cluster_rank()) * kShare;
            CHECK(cluster_rank() == block_x() % kBlocks && cluster_size() == kBlocks);
            if (thread_x() == 0) {
                init_mbarrier(&shared.full, 1);
                init_mbarrier(&shared.seen, kBlocks);
                ++blocks;
            }
            cluster_barrier();
            if (thread_x() == 0) {
                arrive_expecting(&shared.full, sizeof shared.rows);
                copy_tile_to_cluster(&shared.rows[own], &map, 0, first + own, &shared.full);
            }
            wait_phase(&shared.full, 0);
            for (int i = static_cast<int>(thread_x()); i < kRows * kElements; i += static_cast<int>(kThreads)) {
                const int row = i / kElements, column = i % kElements;
                const int unit = column / 8 ^ row % 8;  // the 128-byte swizzle
                CHECK(shared.rows[row][unit * 8 + column % 8] == matrix[static_cast<std::size_t>((first + row) * kElements + column)]);
            }
            if (thread_x() < kBlocks) arrive_in_block(&shared.seen, thread_x());
            wait_phase_of_cluster(&shared.seen, 0);
            cluster_barrier();
        });
        CHECK(blocks == 2 * kBlocks);
    }
}

TEST(emulator_refuses_what_clusters_must_not_do) {
    const auto init = [](Shared& shared) {
        if (thread_x() == 0) init_mbarrier(&shared.seen, 1);
        cluster_barrier();
    };
    CHECK(holds(fault_of(2, 3, [] {}), "clusters of 2 in a grid of 3"));
    CHECK(holds(fault_of(2, 2, [&] {
                    auto& shared = shared_memory<Shared>();
                    init(shared);
                    arrive_in_block(&shared.seen, 2);
                }),
                "rank 2"));
    CHECK(holds(fault_of(2, 2, [&] {
                    auto& shared = shared_memory<Shared>();
                    init(shared);
                    if (cluster_rank() == 1 && thread_x() == 0) return arrive_in_block(&shared.seen, 0);
                    if (cluster_rank() == 1) block_barrier();
                }),
                "has ended"));
    CHECK(holds(fault_of(2, 2, [&] {
                    auto& shared = shared_memory<Shared>();
                    init(shared);
                    if (thread_x() == 0) arrive_in_block(&shared.seen, 1 - cluster_rank());
                    wait_phase(&shared.seen, 0);
                }),
                "threads of other blocks"));
    CHECK(holds(fault_of(2, 2, [] {
                    if (cluster_rank() == 0) cluster_barrier();
                }),
                "never get there"));
}
