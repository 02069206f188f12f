// Phases of barriers in shared memory: ptx/mbarrier.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/mbarrier.h"

namespace sparsecore::cuda::golden {

namespace {

// One warp hands a word to another through one place in shared memory, round after round, by the parities of two barriers.
struct Phases : Plain<Phases> {
    static constexpr int kCapability = 90, kThreads = 64, kRounds = 5;
    struct Shared {
        std::uint32_t word[kWarpSize];
        MBarrier full, empty;
    };
    static constexpr std::size_t kSharedBytes = sizeof(Shared);
    struct Input {
        std::uint32_t word[kRounds][kWarpSize];
    };
    struct Output {
        std::uint32_t word[kRounds][kWarpSize];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        auto& shared = shared_memory<Shared>();
        if (thread_x() == 0) {
            init_mbarrier(&shared.full, kWarpSize);
            init_mbarrier(&shared.empty, kWarpSize);
            fence_mbarrier_init();
        }
        block_barrier();
        const unsigned lane = thread_x() % kWarpSize;
        for (int round = 0; round < kRounds; ++round) {
            if (thread_x() < kWarpSize) {
                if (round > 0) wait_phase(&shared.empty, (round - 1) % 2);
                shared.word[lane] = in.word[round][lane];
                arrive(&shared.full);
            } else {
                wait_phase(&shared.full, round % 2);
                out.word[round][lane] = shared.word[kWarpSize - 1 - lane];
                arrive(&shared.empty);
            }
        }
    }
    static void draw(Random& random, Input& in) {
        for (auto& round : in.word) {
            for (std::uint32_t& word : round) word = random.bits();
        }
    }
};

}  // namespace

std::vector<Case> barrier_cases() { return {make_case<Phases>("mbarrier", "mbarrier.{init,arrive,try_wait.parity}")}; }

}  // namespace sparsecore::cuda::golden
