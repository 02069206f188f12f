// Bits of words: ptx/bits.h.
#include "cuda/ptx/bits.h"

#include "cuda/golden/case.h"

namespace sparsecore::cuda::golden {

namespace {

struct Words : Plain<Words> {
    static constexpr int kThreads = 256;
    struct Input {
        std::uint32_t low[kThreads], high[kThreads], by[kThreads], selector[kThreads];
    };
    struct Output {
        std::uint32_t shifted[kThreads], wrapped[kThreads], chosen[kThreads];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        const unsigned thread = thread_x();
        out.shifted[thread] = shift_left(in.low[thread], in.by[thread]);
        out.wrapped[thread] = shift_left_wrapped(in.low[thread], in.by[thread]);
        out.chosen[thread] = choose_bytes(in.low[thread], in.high[thread], in.selector[thread]);
    }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.low) word = random.bits();
        for (std::uint32_t& word : in.high) word = random.bits();
        for (int i = 0; i < kThreads; ++i) in.by[i] = static_cast<std::uint32_t>(random.integer(-3, 40));
        for (std::uint32_t& word : in.selector) word = random.bits() & 0x7777u;
    }
};

}  // namespace

std::vector<Case> bit_cases() { return {make_case<Words>("words", "shl.b32, shf.l.wrap.b32, prmt.b32")}; }

}  // namespace sparsecore::cuda::golden
