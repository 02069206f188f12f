// Products of bytes: ptx/matrix_int8.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/matrix_int8.h"

namespace sparsecore::cuda::golden {

namespace {

// Dense with unsigned bytes in A, or 2:4 sparse with signed ones.
template <bool kSparse>
struct ByteProduct : Plain<ByteProduct<kSparse>> {
    static constexpr int kThreads = 32, kRegistersOfB = kSparse ? 4 : 2;
    struct Input {
        std::int32_t d[32][4];
        std::uint32_t a[32][4], b[32][kRegistersOfB], metadata[32];
    };
    struct Output {
        std::int32_t d[32][4];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        const unsigned lane = thread_x();
        std::int32_t d[4];
        std::uint32_t a[4], b[kRegistersOfB];
        for (int i = 0; i < 4; ++i) d[i] = in.d[lane][i];
        for (int i = 0; i < 4; ++i) a[i] = in.a[lane][i];
        for (int i = 0; i < kRegistersOfB; ++i) b[i] = in.b[lane][i];
        if constexpr (kSparse) {
            multiply_sparse_bytes(d, a, b, in.metadata[lane]);
        } else {
            multiply_bytes(d, a, b);
        }
        for (int i = 0; i < 4; ++i) out.d[lane][i] = d[i];
    }
    // Every bit is drawn, so that sums leave 32 bits as well.
    static void draw(Random& random, Input& in) {
        for (int lane = 0; lane < 32; ++lane) {
            for (std::int32_t& value : in.d[lane]) value = static_cast<std::int32_t>(random.bits());
            for (std::uint32_t& bytes : in.a[lane]) bytes = random.bits();
            for (std::uint32_t& bytes : in.b[lane]) bytes = random.bits();
            in.metadata[lane] = random.metadata();
        }
    }
};

}  // namespace

std::vector<Case> byte_product_cases() {
    return {make_case<ByteProduct<false>>("mma_u8_s8", "mma.m16n8k32.s32.u8.s8.s32"),
            make_case<ByteProduct<true>>("mma_sp_s8", "mma.sp.m16n8k64.s32.s8.s8.s32")};
}

}  // namespace sparsecore::cuda::golden
