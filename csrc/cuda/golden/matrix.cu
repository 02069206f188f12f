// Fragments: loads of 8x8 tiles, dense and 2:4 sparse products of a warp: ptx/matrix.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/matrix.h"

namespace sparsecore::cuda::golden {

namespace {

template <bool kTransposed>
struct LoadMatrix : Plain<LoadMatrix<kTransposed>> {
    static constexpr int kThreads = 32;
    struct Shared {
        alignas(16) std::uint16_t row[32][8];
    };
    static constexpr std::size_t kSharedBytes = sizeof(Shared);
    struct Input {
        std::uint16_t row[32][8];
        std::int32_t row_of_lane[32];  // which row a lane names
    };
    struct Output {
        std::uint32_t tile[32][4];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        auto& shared = shared_memory<Shared>();
        const unsigned lane = thread_x();
        for (int i = 0; i < 8; ++i) shared.row[lane][i] = in.row[lane][i];
        block_barrier();
        std::uint32_t tile[4];
        if (kTransposed) {
            load_matrix_x4_transposed(tile, shared.row[in.row_of_lane[lane]]);
        } else {
            load_matrix_x4(tile, shared.row[in.row_of_lane[lane]]);
        }
        for (int i = 0; i < 4; ++i) out.tile[lane][i] = tile[i];
    }
    static void draw(Random& random, Input& in) {
        for (auto& row : in.row) {
            for (std::uint16_t& element : row) element = static_cast<std::uint16_t>(random.bits());
        }
        for (std::int32_t& row : in.row_of_lane) row = random.integer(0, 31);
    }
};

// D += A B with fragments as they are; kSelector below 0: a dense A. `kSpecial`: B holds an infinity or a NaN in each column,
// which a pruned place of A does not touch.
template <class T, int kSelector, bool kSpecial = false>
struct Product : Plain<Product<T, kSelector, kSpecial>> {
    static constexpr bool kSparse = kSelector >= 0;
    static constexpr int kThreads = 32, kRegistersOfB = kSparse ? 4 : 2;
    struct Input {
        float d[32][4];
        std::uint32_t a[32][4], b[32][kRegistersOfB], metadata[32];
    };
    struct Output {
        float d[32][4];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        const unsigned lane = thread_x();
        float d[4];
        std::uint32_t a[4], b[kRegistersOfB];
        for (int i = 0; i < 4; ++i) d[i] = in.d[lane][i];
        for (int i = 0; i < 4; ++i) a[i] = in.a[lane][i];
        for (int i = 0; i < kRegistersOfB; ++i) b[i] = in.b[lane][i];
        if constexpr (kSparse) {
            multiply_sparse<T, kSelector>(d, a, b, in.metadata[lane]);
        } else {
            multiply<T>(d, a, b);
        }
        for (int i = 0; i < 4; ++i) out.d[lane][i] = d[i];
    }
    static void draw(Random& random, Input& in) {
        for (int lane = 0; lane < 32; ++lane) {
            for (float& value : in.d[lane]) value = random.small();
            for (std::uint32_t& pair : in.a[lane]) pair = random.small_pair<T>();
            for (std::uint32_t& pair : in.b[lane]) pair = random.small_pair<T>();
            in.metadata[lane] = random.metadata();
        }
        if (!kSpecial) return;
        const std::uint16_t infinity = T::kBrain ? 0x7f80 : 0x7c00, quiet_nan = T::kBrain ? 0x7fc0 : 0x7e00;
        for (int column = 0; column < 8; ++column) {
            // One of the four lanes that hold a column.
            std::uint32_t& pair = in.b[column * 4 + random.integer(0, 3)][random.integer(0, kRegistersOfB - 1)];
            pair = (pair & 0xffff0000u) | (column % 2 ? infinity : quiet_nan);
        }
    }
    static bool equal(const Output& recorded, const Output& got) { return equal_floats(recorded, got); }
};

}  // namespace

std::vector<Case> matrix_cases() {
    return {make_case<LoadMatrix<false>>("ldmatrix", "ldmatrix.m8n8.x4.b16"),
            make_case<LoadMatrix<true>>("ldmatrix_transposed", "ldmatrix.m8n8.x4.trans.b16"),
            make_case<Product<BF16, -1>>("mma_bf16", "mma.m16n8k16.f32.bf16.bf16.f32"),
            make_case<Product<F16, -1>>("mma_f16", "mma.m16n8k16.f32.f16.f16.f32"),
            make_case<Product<BF16, 0>>("mma_sp_bf16_0", "mma.sp.m16n8k32.f32.bf16.bf16.f32, selector 0"),
            make_case<Product<BF16, 1>>("mma_sp_bf16_1", "mma.sp.m16n8k32.f32.bf16.bf16.f32, selector 1"),
            make_case<Product<F16, 0>>("mma_sp_f16_0", "mma.sp.m16n8k32.f32.f16.f16.f32, selector 0"),
            make_case<Product<F16, 1>>("mma_sp_f16_1", "mma.sp.m16n8k32.f32.f16.f16.f32, selector 1"),
            make_case<Product<BF16, 0, true>>("mma_sp_special", "mma.sp.m16n8k32.f32.bf16.bf16.f32, infinities and NaN in B")};
}

}  // namespace sparsecore::cuda::golden
