// Copies from global to shared memory: ptx/async_copy.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/async_copy.h"

namespace sparsecore::cuda::golden {

namespace {

// Each thread copies 16 and 4 bytes of which the last ones become zeros, in two groups; what landed is written out.
struct Copies : Plain<Copies> {
    static constexpr int kThreads = 64;
    struct Shared {
        alignas(16) std::uint32_t units[kThreads][4];
        std::uint32_t words[kThreads];
    };
    static constexpr std::size_t kSharedBytes = sizeof(Shared);
    struct Input {
        alignas(16) std::uint32_t units[kThreads][4];
        std::uint32_t words[kThreads];
        std::int32_t bytes_of_unit[kThreads], bytes_of_word[kThreads];
    };
    struct Output {
        std::uint32_t units[kThreads][4], words[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        auto& shared = shared_memory<Shared>();
        const unsigned thread = thread_x(), other = thread ^ 5u;
        copy_async_16(shared.units[thread], in.units[other], in.bytes_of_unit[thread]);
        commit_copies();
        copy_async_4(&shared.words[thread], &in.words[other], in.bytes_of_word[thread]);
        commit_copies();
        wait_copies<1>();
        for (int i = 0; i < 4; ++i) out.units[thread][i] = shared.units[thread][i];  // its own: no barrier is needed
        wait_copies<0>();
        block_barrier();
        out.words[thread] = shared.words[kThreads - 1 - thread];
    }
    static void draw(Random& random, Input& in) {
        for (auto& unit : in.units) {
            for (std::uint32_t& word : unit) word = random.bits();
        }
        for (std::uint32_t& word : in.words) word = random.bits();
        for (int i = 0; i < kThreads; ++i) {
            in.bytes_of_unit[i] = i < 17 ? i : random.integer(0, 16);
            in.bytes_of_word[i] = random.integer(0, 4);
        }
    }
};

}  // namespace

std::vector<Case> copy_cases() { return {make_case<Copies>("copies", "cp.async.{ca,cg}.shared.global, zero fill")}; }

}  // namespace sparsecore::cuda::golden
