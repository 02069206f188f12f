// Products of bytes: ptx/matrix_int8.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/matrix_int8.h"

namespace sparsecore::cuda::golden {

namespace {

struct ByteProduct : Plain<ByteProduct> {
    static constexpr int kThreads = 32;
    struct Input {
        std::int32_t d[32][4];
        std::uint32_t a[32][4], b[32][2];
    };
    struct Output {
        std::int32_t d[32][4];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        const unsigned lane = thread_x();
        std::int32_t d[4];
        std::uint32_t a[4], b[2];
        for (int i = 0; i < 4; ++i) d[i] = in.d[lane][i];
        for (int i = 0; i < 4; ++i) a[i] = in.a[lane][i];
        for (int i = 0; i < 2; ++i) b[i] = in.b[lane][i];
        multiply_bytes(d, a, b);
        for (int i = 0; i < 4; ++i) out.d[lane][i] = d[i];
    }
    // Every bit is drawn, so that sums leave 32 bits as well.
    static void draw(Random& random, Input& in) {
        for (int lane = 0; lane < 32; ++lane) {
            for (std::int32_t& value : in.d[lane]) value = static_cast<std::int32_t>(random.bits());
            for (std::uint32_t& bytes : in.a[lane]) bytes = random.bits();
            for (std::uint32_t& bytes : in.b[lane]) bytes = random.bits();
        }
    }
};

}  // namespace

std::vector<Case> byte_product_cases() { return {make_case<ByteProduct>("mma_u8_s8", "mma.m16n8k32.s32.u8.s8.s32")}; }

}  // namespace sparsecore::cuda::golden
