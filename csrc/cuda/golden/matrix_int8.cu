// Products of bytes: ptx/matrix_int8.h and ptx/matrix_e4m3.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/matrix_e4m3.h"
#include "cuda/ptx/matrix_int8.h"

namespace sparsecore::cuda::golden {

namespace {

enum class Bytes { Unsigned, Signed, Sparse };  // of A: dense ones, or 2:4 sparse signed ones

template <Bytes kBytes>
struct ByteProduct : Plain<ByteProduct<kBytes>> {
    static constexpr int kThreads = 32, kRegistersOfB = kBytes == Bytes::Sparse ? 4 : 2;
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
        if constexpr (kBytes == Bytes::Sparse) {
            multiply_sparse_bytes(d, a, b, in.metadata[lane]);
        } else if constexpr (kBytes == Bytes::Signed) {
            multiply_signed_bytes(d, a, b);
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

struct Float8Product : Plain<Float8Product> {
    static constexpr int kThreads = 32, kCapability = 89;
    struct Input {
        float d[32][4];
        std::uint32_t a[32][4], b[32][4], metadata[32];
    };
    struct Output {
        float d[32][4];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        const unsigned lane = thread_x();
        float d[4];
        std::uint32_t a[4], b[4];
        for (int i = 0; i < 4; ++i) {
            d[i] = in.d[lane][i];
            a[i] = in.a[lane][i];
            b[i] = in.b[lane][i];
        }
        multiply_sparse_e4m3(d, a, b, in.metadata[lane]);
        for (int i = 0; i < 4; ++i) out.d[lane][i] = d[i];
    }
    static void draw(Random& random, Input& in) {
        for (int lane = 0; lane < 32; ++lane) {
            for (float& value : in.d[lane]) value = random.small();
            for (std::uint32_t& bytes : in.a[lane]) bytes = random.small_e4m3();
            for (std::uint32_t& bytes : in.b[lane]) bytes = random.small_e4m3();
            in.metadata[lane] = random.metadata();
        }
        // NaN in every other column, which a pruned place of A does not touch.
        for (int column = 0; column < 8; column += 2) in.b[column * 4 + random.integer(0, 3)][random.integer(0, 3)] |= 0x7fu;
    }
    static bool equal(const Output& recorded, const Output& got) { return equal_floats(recorded, got); }
};

}  // namespace

std::vector<Case> byte_product_cases() {
    return {make_case<ByteProduct<Bytes::Unsigned>>("mma_u8_s8", "mma.m16n8k32.s32.u8.s8.s32"),
            make_case<ByteProduct<Bytes::Signed>>("mma_s8_s8", "mma.m16n8k32.s32.s8.s8.s32"),
            make_case<ByteProduct<Bytes::Sparse>>("mma_sp_s8", "mma.sp.m16n8k64.s32.s8.s8.s32"),
            make_case<Float8Product>("mma_sp_e4m3", "mma.sp.m16n8k64.f32.e4m3.e4m3.f32")};
}

}  // namespace sparsecore::cuda::golden
