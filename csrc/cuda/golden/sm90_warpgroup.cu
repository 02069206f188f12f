// Products of a warpgroup, dense and 2:4 sparse: ptx/wgmma.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda::golden {

constexpr int kStored = 16, kTileRows = 64;

enum class Source { Memory, Registers };  // where A is

// A product as a type: D 64 x kColumns += A B. kNegated: ordinary stores change the sign of B before it is multiplied.
template <class T_, int kColumns_, bool kSparse_, Source kSource_ = Source::Memory, int kSelector_ = 0, bool kNegated_ = false>
struct Shape {
    using T = T_;
    static constexpr bool kNegated = kNegated_;
    static constexpr int kColumns = kColumns_, kSelector = kSelector_;
    static constexpr bool kSparse = kSparse_, kRegisters = kSource_ == Source::Registers;
    // Steps into the same sums: the second one further within the rows of the tiles. Wide products have one, to keep files small.
    static constexpr int kSteps = kColumns == 64 ? 2 : 1;
    static constexpr int kDepth = kSparse ? 2 * kStored : kStored;  // of B in one step
    // B's columns lie in tiles of 64, each 8 rows of the matrix further than the one before: few rows serve wide products.
    static constexpr int kTiles = kColumns / kTileRows, kRowsBetween = 8, kRowsOfB = kTileRows + (kTiles - 1) * kRowsBetween;
};

namespace {

constexpr int kThreads = 128, kRows = 64, kTileElements = 64;

template <class S>
struct WarpgroupInput {
    alignas(128) std::uint16_t b[S::kRowsOfB][S::kSteps * S::kDepth];
    alignas(128) std::uint16_t a_in_memory[S::kRegisters ? 1 : kRows][S::kSteps * kStored];
    std::uint32_t a_in_registers[S::kSteps][S::kRegisters ? kThreads : 1][4], metadata[S::kSteps][S::kSparse ? kThreads : 1];
};

template <class S>
struct WarpgroupShared {
    std::uint16_t a[kRows][kTileElements], b[S::kTiles][kTileRows][kTileElements];
    MBarrier full;
};

// All sums of a thread, which are small integers; of wide products a word in which every register has its own weight.
template <int kColumns>
struct WarpgroupOutput {
    std::uint32_t word[kThreads];
};
template <>
struct WarpgroupOutput<64> {
    std::int16_t d[kThreads][32];
};

template <int kColumns>
SC_DEVICE void keep(const float (&d)[kColumns / 2], WarpgroupOutput<kColumns>& out) {
    if constexpr (kColumns == 64) {
        for (int i = 0; i < kColumns / 2; ++i) out.d[thread_x()][i] = static_cast<std::int16_t>(d[i]);
    } else {
        std::uint32_t word = 0;
SC_UNROLL
        for (int i = 0; i < kColumns / 2; ++i) word = word * 31u + static_cast<std::uint32_t>(static_cast<std::int32_t>(d[i]));
        out.word[thread_x()] = word;
    }
}

template <class S>
SC_DEVICE void fetch(WarpgroupShared<S>& shared, const TensorMap* a_map, const TensorMap* b_map) {
    if (thread_x() == 0) {
        init_mbarrier(&shared.full, 1);
        fence_mbarrier_init();
        arrive_expecting(&shared.full, sizeof shared.b + (S::kRegisters ? 0 : sizeof shared.a));
        if (!S::kRegisters) copy_tile(shared.a, a_map, 0, 0, &shared.full);
        for (int i = 0; i < S::kTiles; ++i) copy_tile(shared.b[i], b_map, 0, i * S::kRowsBetween, &shared.full);
    }
    block_barrier();
    wait_phase(&shared.full, 0);
    if (!S::kNegated) return;
    std::uint16_t* elements = &shared.b[0][0][0];
    for (unsigned i = thread_x(); i < sizeof shared.b / 2; i += kThreads) elements[i] ^= 0x8000;
    fence_async_proxy();
    block_barrier();
}

template <class S>
SC_GLOBAL void SC_BOUNDS(kThreads, 1)
    warpgroup_kernel(const WarpgroupInput<S>* in, WarpgroupOutput<S::kColumns>* out, SC_TENSOR_MAP a_map, SC_TENSOR_MAP b_map) {
    using T = typename S::T;
    auto& shared = shared_memory<WarpgroupShared<S>>();
    fetch<S>(shared, &a_map, &b_map);
    float d[S::kColumns / 2];
SC_UNROLL
    for (int i = 0; i < S::kColumns / 2; ++i) d[i] = static_cast<float>(i);
SC_UNROLL
    for (int step = 0; step < S::kSteps; ++step) {
        const TileDescriptor b = tile_descriptor(&shared.b[0][0][step * S::kDepth]);
        fence_accumulators();
        if constexpr (S::kRegisters) {
            std::uint32_t a[4];
            for (int i = 0; i < 4; ++i) a[i] = in->a_in_registers[step][thread_x()][i];
            multiply_sparse_async<T, S::kColumns, S::kSelector>(d, a, b, in->metadata[step][thread_x()]);
        } else if constexpr (S::kSparse) {
            const TileDescriptor a = tile_descriptor(&shared.a[0][step * kStored]);
            multiply_sparse_async<T, S::kColumns, S::kSelector>(d, a, b, in->metadata[step][thread_x()]);
        } else {
            multiply_async<T, S::kColumns>(d, tile_descriptor(&shared.a[0][step * kStored]), b);
        }
        commit_products();
        wait_products<0>(d);  // before the registers of A go
    }
    keep<S::kColumns>(d, *out);
}

template <class S>
struct WarpgroupProduct : Plain<WarpgroupProduct<S>> {
    static constexpr int kCapability = 90;
    using Input = WarpgroupInput<S>;
    using Output = WarpgroupOutput<S::kColumns>;
    static void launch(const Input* in, Output* out) {
        constexpr int kOfA = S::kSteps * kStored, kOfB = S::kSteps * S::kDepth;
        const TensorMap a_map = matrix_map(in->a_in_memory, S::kRegisters ? 1 : kRows, kOfA, kOfA, kRows);
        const TensorMap b_map = matrix_map(in->b, S::kRowsOfB, kOfB, kOfB, kTileRows);
        cuda::launch("golden vectors", warpgroup_kernel<S>, Grid{}, kThreads, sizeof(WarpgroupShared<S>), 0, in, out, a_map, b_map);
    }
    static void draw(Random& random, Input& in) {
        for (auto& row : in.b) {
            for (std::uint16_t& element : row) element = random.small_bits<typename S::T>();
        }
        for (auto& row : in.a_in_memory) {
            for (std::uint16_t& element : row) element = random.small_bits<typename S::T>();
        }
        for (auto& step : in.a_in_registers) {
            for (auto& fragment : step) {
                for (std::uint32_t& pair : fragment) pair = random.small_pair<typename S::T>();
            }
        }
        for (auto& step : in.metadata) {
            for (std::uint32_t& word : step) word = random.metadata();
        }
    }
};

template <class T, int kColumns>
using Dense = WarpgroupProduct<Shape<T, kColumns, false>>;
template <class T, int kColumns, Source kSource, int kSelector>
using Sparse = WarpgroupProduct<Shape<T, kColumns, true, kSource, kSelector>>;

}  // namespace

std::vector<Case> warpgroup_cases() {
    constexpr Source kMemory = Source::Memory, kRegisters = Source::Registers;
    using Negated = WarpgroupProduct<Shape<F16, 128, false, kMemory, 0, true>>;
    return {make_case<Dense<BF16, 64>>("wgmma_bf16_64", "wgmma.m64n64k16.f32.bf16.bf16"),
            make_case<Negated>("wgmma_behind_stores", "fence.proxy.async, wgmma.m64n128k16"),
            make_case<Dense<F16, 128>>("wgmma_f16_128", "wgmma.m64n128k16.f32.f16.f16"),
            make_case<Dense<BF16, 256>>("wgmma_bf16_256", "wgmma.m64n256k16.f32.bf16.bf16"),
            make_case<Sparse<BF16, 64, kMemory, 0>>("wgmma_sp_bf16_64", "wgmma.sp.m64n64k32, selector 0"),
            make_case<Sparse<F16, 128, kMemory, 1>>("wgmma_sp_f16_128", "wgmma.sp.m64n128k32, selector 1"),
            make_case<Sparse<BF16, 256, kMemory, 1>>("wgmma_sp_bf16_256", "wgmma.sp.m64n256k32, selector 1"),
            make_case<Sparse<BF16, 64, kRegisters, 1>>("wgmma_sp_registers_bf16_64", "wgmma.sp.m64n64k32, A in registers, selector 1"),
            make_case<Sparse<F16, 128, kRegisters, 0>>("wgmma_sp_registers_f16_128",
                                                      "wgmma.sp.m64n128k32, A in registers, selector 0"),
            make_case<Sparse<BF16, 256, kRegisters, 0>>("wgmma_sp_registers_bf16_256",
                                                       "wgmma.sp.m64n256k32, A in registers, selector 0")};
}

}  // namespace sparsecore::cuda::golden
