// Exchanges and reductions within a warp, and atomic operations: ptx/warp.h, ptx/reduce.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/reduce.h"
#include "cuda/ptx/warp.h"

namespace sparsecore::cuda::golden {

namespace {

struct Shuffles : Plain<Shuffles> {
    static constexpr int kThreads = 64;
    struct Input {
        std::uint32_t word[kThreads];
        std::int32_t lane[kThreads];
    };
    struct Output {
        std::uint32_t crossed[kThreads], near[kThreads], up[kThreads], far_up[kThreads], asked[kThreads];
        std::uint64_t wide[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        const unsigned thread = thread_x();
        const std::uint32_t own = in.word[thread];
        out.crossed[thread] = shuffle_xor(own, 21);
        out.near[thread] = shuffle_xor(own, 1);
        out.up[thread] = shuffle_up(own, 1u);
        out.far_up[thread] = shuffle_up(own, 17u);
        out.asked[thread] = shuffle(own, in.lane[thread]);
        out.wide[thread] = shuffle_xor(static_cast<unsigned long long>(own) << 32 | thread, 10);
    }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.word) word = random.bits();
        for (std::int32_t& lane : in.lane) lane = random.integer(0, kWarpSize - 1);
    }
};

struct Votes : Plain<Votes> {
    static constexpr int kThreads = 64;
    struct Input {
        std::uint32_t word[kThreads];
    };
    struct Output {
        std::uint32_t votes[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) { out.votes[thread_x()] = ballot(in.word[thread_x()] % 3 == 0); }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.word) word = random.bits();
    }
};

struct Reductions : Plain<Reductions> {
    static constexpr int kThreads = 64;
    struct Input {
        std::uint32_t word[kThreads];
    };
    struct Output {
        std::uint32_t sum[kThreads], all[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        out.sum[thread_x()] = reduce_add(in.word[thread_x()]);
        out.all[thread_x()] = reduce_or(in.word[thread_x()] & 1u << thread_x() % 20);
    }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.word) word = random.bits();
    }
};

// A warp's exchange through shared memory.
struct WarpBarrier : Plain<WarpBarrier> {
    static constexpr int kThreads = 64;
    struct Shared {
        std::uint32_t word[kThreads];
    };
    static constexpr std::size_t kSharedBytes = sizeof(Shared);
    struct Input {
        std::uint32_t word[kThreads];
    };
    using Output = Input;
    static SC_DEVICE void run(const Input& in, Output& out) {
        auto& shared = shared_memory<Shared>();
        shared.word[thread_x()] = in.word[thread_x()];
        warp_barrier();
        out.word[thread_x()] = shared.word[thread_x() ^ 31u];
    }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.word) word = random.bits();
    }
};

// Sums over the block; the old values come in any order, so what is kept of them is their sum.
struct Atomics : Plain<Atomics> {
    static constexpr int kThreads = 128;
    struct Shared {
        std::uint32_t word, places, most, bits;
        std::int32_t number;
        std::uint64_t wide;
    };
    static constexpr std::size_t kSharedBytes = sizeof(Shared);
    struct Input {
        std::uint32_t word[kThreads];
        std::int32_t number[kThreads];
        std::uint64_t wide[kThreads];
    };
    struct Output {  // without padding, which would hold anything
        std::uint32_t word, places, most, bits;
        std::int64_t number;
        std::uint64_t wide;
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        auto& shared = shared_memory<Shared>();
        if (thread_x() == 0) shared = {};
        block_barrier();
        atomic_add(&shared.word, in.word[thread_x()]);
        atomic_add(&shared.number, in.number[thread_x()]);
        atomic_add(&shared.wide, in.wide[thread_x()]);
        const std::uint32_t place = atomic_add(&shared.places, 1u << 16);  // the old values are 0, 1, ... of the high half
        atomic_add(&shared.places, place >> 16);
        atomic_max(&shared.most, in.word[thread_x()]);
        atomic_or(&shared.bits, in.word[thread_x()] & 1u << thread_x() % 32);
        block_barrier();
        if (thread_x() == 0) out = {shared.word, shared.places, shared.most, shared.bits, shared.number, shared.wide};
    }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.word) word = random.bits();
        for (std::int32_t& number : in.number) number = random.integer(-1000000, 1000000);
        for (std::uint64_t& wide : in.wide) wide = static_cast<std::uint64_t>(random.bits()) << 32 | random.bits();
    }
};

}  // namespace

std::vector<Case> warp_cases() {
    return {make_case<Shuffles>("shuffles", "shfl.sync.{bfly,up,idx}"),
            make_case<Votes>("votes", "vote.sync.ballot"),
            make_case<Reductions>("reductions", "redux.sync.{add,or}"),
            make_case<WarpBarrier>("warp_barrier", "bar.warp.sync"),
            make_case<Atomics>("atomics", "atom.shared.{add,max,or}")};
}

}  // namespace sparsecore::cuda::golden
