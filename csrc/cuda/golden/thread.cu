// Places of threads, barriers of a block, bits of numbers: ptx/thread.h.
#include "cuda/golden/case.h"

namespace sparsecore::cuda::golden {

namespace {

struct Places : Plain<Places> {
    static constexpr int kThreads = 64;
    static constexpr Grid kGrid{3, 2, 2};
    struct Input {
        std::uint32_t added;
    };
    struct Output {
        std::uint32_t word[2][2][3][kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        out.word[block_z()][block_y()][block_x()][thread_x()] =
            in.added + ((((block_z() * grid_dim_y() + block_y()) * grid_dim_x() + block_x()) * block_dim_x() + thread_x()) << 8);
    }
    static void draw(Random& random, Input& in) { in.added = random.bits() & 0xff; }
};

// Every thread reads what another one wrote before a barrier; the halves of the block meet apart in the second round.
struct Barriers : Plain<Barriers> {
    static constexpr int kThreads = 128;
    struct Shared {
        std::uint32_t word[2][kThreads];
    };
    static constexpr std::size_t kSharedBytes = sizeof(Shared);
    struct Input {
        std::uint32_t word[kThreads];
    };
    struct Output {
        std::uint32_t word[2][kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        auto& shared = shared_memory<Shared>();
        const unsigned thread = thread_x();
        shared.word[0][thread] = in.word[thread];
        block_barrier();
        out.word[0][thread] = shared.word[0][kThreads - 1 - thread];
        shared.word[1][thread] = out.word[0][thread] + thread;
        named_barrier(thread < kThreads / 2 ? 1 : 2, kThreads / 2);
        out.word[1][thread] = shared.word[1][thread ^ 33u];
    }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.word) word = random.bits();
    }
};

// Votes of a block, with a barrier that has none in between.
struct BarrierVotes : Plain<BarrierVotes> {
    static constexpr int kThreads = 96;
    struct Input {
        std::uint32_t word[kThreads];
    };
    struct Output {
        std::uint32_t any[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        const std::uint32_t own = in.word[thread_x()];
        std::uint32_t any = block_barrier_any(own == 0);
        any |= static_cast<std::uint32_t>(block_barrier_any(own % 2 == 0)) << 1;
        block_barrier();
        any |= static_cast<std::uint32_t>(block_barrier_any(own == 97)) << 2;
        out.any[thread_x()] = any;
    }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.word) word = static_cast<std::uint32_t>(random.integer(0, 96));
    }
};

struct Bits : Plain<Bits> {
    static constexpr int kThreads = 128;
    struct Input {
        std::uint32_t word[kThreads];
    };
    struct Output {
        std::uint32_t count[kThreads];
        std::int32_t lowest[kThreads];
        std::uint32_t same[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        const unsigned thread = thread_x();
        out.count[thread] = static_cast<std::uint32_t>(count_bits(in.word[thread]));
        out.lowest[thread] = lowest_bit(in.word[thread]);
        out.same[thread] = float_bits(bits_to_float(in.word[thread] & 0x7f7fffffu));  // no NaN, whose bits may change
    }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.word) word = random.bits() << random.integer(0, 31);
        in.word[0] = 0;
    }
};

struct HalfToFloat : Plain<HalfToFloat> {
    static constexpr int kThreads = 512;
    struct Input {
        std::uint16_t half[kThreads];
    };
    struct Output {
        float value[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) { out.value[thread_x()] = half_bits_to_float(in.half[thread_x()]); }
    static void draw(Random& random, Input& in) {
        for (std::uint16_t& half : in.half) half = static_cast<std::uint16_t>(random.bits());
        const std::uint16_t special[] = {0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0x7c01};
        std::memcpy(in.half, special, sizeof special);
    }
    static bool equal(const Output& recorded, const Output& got) { return equal_floats(recorded, got); }
};

// Numbers around what fp16 holds: subnormals, ties, overflows.
struct FloatToHalf : Plain<FloatToHalf> {
    static constexpr int kThreads = 512;
    struct Input {
        float value[kThreads];
    };
    struct Output {
        std::uint16_t half[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) { out.half[thread_x()] = float_to_half_bits(in.value[thread_x()]); }
    static void draw(Random& random, Input& in) {
        for (float& value : in.value) {
            const std::uint32_t exponent = static_cast<std::uint32_t>(random.integer(127 - 26, 127 + 17));
            // Half of them end in the bits that make a tie.
            const std::uint32_t fraction = random.bits() & (random.integer(0, 1) ? 0x7fffffu : 0x7ff000u);
            value = bits_of((random.bits() & 0x80000000u) | exponent << 23 | fraction);
        }
        const std::uint32_t special[] = {0x00000000, 0x80000000, 0x00000001, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
                                         0x477fe000, 0x477ff000, 0x33000000, 0x33000001};
        std::memcpy(in.value, special, sizeof special);
    }
    static bool equal(const Output& recorded, const Output& got) {
        for (int i = 0; i < kThreads; ++i) {
            const bool both_nan = (recorded.half[i] & 0x7fff) > 0x7c00 && (got.half[i] & 0x7fff) > 0x7c00;
            if (!both_nan && recorded.half[i] != got.half[i]) return false;
        }
        return true;
    }

private:
    static float bits_of(std::uint32_t bits) {
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
};

}  // namespace

std::vector<Case> thread_cases() {
    return {make_case<Places>("places", "%tid, %ctaid, %ntid, %nctaid"),
            make_case<Barriers>("barriers", "bar.sync"),
            make_case<BarrierVotes>("barrier_votes", "barrier.red.or"),
            make_case<Bits>("bits", "popc, bfind, mov.b32"),
            make_case<HalfToFloat>("half_to_float", "cvt.f32.f16"),
            make_case<FloatToHalf>("float_to_half", "cvt.rn.f16.f32")};
}

}  // namespace sparsecore::cuda::golden
