// Sparse products of bytes by a warpgroup: ptx/wgmma_bytes.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma_bytes.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda::golden {

namespace {

constexpr int kThreads = 128, kSteps = 2, kRowBytes = 128, kTileRows = 64;

// A product as a type: D 64 x kColumns += A B, in two steps of 64 columns. Bytes are int8, or E4M3 with sums in fp32.
template <bool kFloat8_, int kColumns_>
struct ByteShape {
    using Sum = std::conditional_t<kFloat8_, float, std::int32_t>;
    static constexpr bool kFloat8 = kFloat8_;
    static constexpr int kColumns = kColumns_;
    // B's columns lie in tiles of 64, each 8 rows of the matrix further than the one before: few rows serve wide products.
    static constexpr int kTiles = kColumns / kTileRows, kRowsBetween = 8, kRowsOfB = kTileRows + (kTiles - 1) * kRowsBetween;
};

template <class S>
struct ByteInput {
    alignas(128) std::uint32_t b[S::kRowsOfB][kRowBytes / 4];
    std::uint32_t a[kSteps][kThreads][4], metadata[kSteps][kThreads];
};

// Of each thread a word in which every sum has its own weight.
struct ByteOutput {
    std::uint32_t word[kThreads];
};

template <class S>
struct ByteTiles {
    unsigned char b[S::kTiles][kTileRows][kRowBytes];
    MBarrier full;
};

template <class S>
SC_GLOBAL void SC_BOUNDS(kThreads, 1) byte_kernel(const ByteInput<S>* in, ByteOutput* out, SC_TENSOR_MAP map) {
    auto& shared = shared_memory<ByteTiles<S>>();
    if (thread_x() == 0) {
        init_mbarrier(&shared.full, 1);
        fence_mbarrier_init();
        arrive_expecting(&shared.full, sizeof shared.b);
        for (int i = 0; i < S::kTiles; ++i) copy_tile(shared.b[i], &map, 0, i * S::kRowsBetween, &shared.full);
    }
    block_barrier();
    wait_phase(&shared.full, 0);
    typename S::Sum d[S::kColumns / 2];
SC_UNROLL
    for (int i = 0; i < S::kColumns / 2; ++i) d[i] = static_cast<typename S::Sum>(i);
SC_UNROLL
    for (int step = 0; step < kSteps; ++step) {
        const TileDescriptor b = tile_descriptor(&shared.b[0][0][step * 64]);
        std::uint32_t a[4];
        for (int i = 0; i < 4; ++i) a[i] = in->a[step][thread_x()][i];
        fence_accumulators();
        if constexpr (S::kFloat8) {
            multiply_sparse_e4m3_async<S::kColumns>(d, a, b, in->metadata[step][thread_x()]);
        } else {
            multiply_sparse_bytes_async<S::kColumns>(d, a, b, in->metadata[step][thread_x()]);
        }
        commit_products();
        wait_products<0>(d);  // before the registers of A go
    }
    std::uint32_t word = 0;
SC_UNROLL
    for (int i = 0; i < S::kColumns / 2; ++i) word = word * 31u + static_cast<std::uint32_t>(static_cast<std::int32_t>(d[i]));
    out->word[thread_x()] = word;
}

template <class S>
struct ByteProducts : Plain<ByteProducts<S>> {
    static constexpr int kCapability = 90;
    using Input = ByteInput<S>;
    using Output = ByteOutput;
    static void launch(const Input* in, Output* out) {
        // The map counts elements of two bytes, which are only moved.
        const TensorMap map = matrix_map(in->b, S::kRowsOfB, kRowBytes / 2, kRowBytes / 2, kTileRows);
        cuda::launch("golden vectors", byte_kernel<S>, Grid{}, kThreads, sizeof(ByteTiles<S>), 0, in, out, map);
    }
    static void draw(Random& random, Input& in) {
        const auto four = [&] { return S::kFloat8 ? random.small_e4m3() : random.bits(); };
        for (auto& row : in.b) {
            for (std::uint32_t& bytes : row) bytes = four();
        }
        for (auto& step : in.a) {
            for (auto& fragment : step) {
                for (std::uint32_t& bytes : fragment) bytes = four();
            }
        }
        for (auto& step : in.metadata) {
            for (std::uint32_t& word : step) word = random.metadata();
        }
    }
};

template <bool kFloat8, int kColumns>
using Bytes = ByteProducts<ByteShape<kFloat8, kColumns>>;

}  // namespace

std::vector<Case> warpgroup_byte_cases() {
    return {make_case<Bytes<false, 64>>("wgmma_sp_s8_64", "wgmma.sp.m64n64k64.s32.s8.s8, A in registers"),
            make_case<Bytes<false, 128>>("wgmma_sp_s8_128", "wgmma.sp.m64n128k64.s32.s8.s8, A in registers"),
            make_case<Bytes<false, 256>>("wgmma_sp_s8_256", "wgmma.sp.m64n256k64.s32.s8.s8, A in registers"),
            make_case<Bytes<true, 64>>("wgmma_sp_e4m3_64", "wgmma.sp.m64n64k64.f32.e4m3.e4m3, A in registers"),
            make_case<Bytes<true, 128>>("wgmma_sp_e4m3_128", "wgmma.sp.m64n128k64.f32.e4m3.e4m3, A in registers"),
            make_case<Bytes<true, 256>>("wgmma_sp_e4m3_256", "wgmma.sp.m64n256k64.f32.e4m3.e4m3, A in registers")};
}

}  // namespace sparsecore::cuda::golden
