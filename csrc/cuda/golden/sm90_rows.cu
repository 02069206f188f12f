// Products of a warpgroup with B as rows, and those that begin a sum: ptx/wgmma_transposed.h; and boxes of one of many matrices: ptx/tma.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma_transposed.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda::golden {

namespace {

constexpr int kThreads = 128, kDepth = 16, kTileElements = 64;

// A in registers times rows of B as they lie, in blocks of 64 columns.
template <int kColumns>
struct RowsInput {
    alignas(128) std::uint16_t b[kDepth][kColumns];
    std::uint32_t a[kThreads][4];
};
template <int kColumns>
struct RowsOutput {
    std::int16_t d[kThreads][kColumns / 2];  // small integers
};
template <int kColumns>
struct RowsShared {
    std::uint16_t b[kColumns / kTileElements][kDepth][kTileElements];
    MBarrier full;
};

template <class T, int kColumns>
SC_GLOBAL void SC_BOUNDS(kThreads, 1) rows_kernel(const RowsInput<kColumns>* in, RowsOutput<kColumns>* out, SC_TENSOR_MAP b_map) {
    auto& shared = shared_memory<RowsShared<kColumns>>();
    if (thread_x() == 0) {
        init_mbarrier(&shared.full, 1);
        fence_mbarrier_init();
        arrive_expecting(&shared.full, sizeof shared.b);
        for (int i = 0; i < kColumns / kTileElements; ++i) copy_tile(shared.b[i], &b_map, i * kTileElements, 0, &shared.full);
    }
    block_barrier();
    wait_phase(&shared.full, 0);
    float d[kColumns / 2];
SC_UNROLL
    for (int i = 0; i < kColumns / 2; ++i) d[i] = static_cast<float>(i);
    std::uint32_t a[4];
    for (int i = 0; i < 4; ++i) a[i] = in->a[thread_x()][i];
    fence_accumulators();
    multiply_rows_async<T, kColumns>(d, a, rows_descriptor(shared.b, sizeof shared.b[0]));
    commit_products();
    wait_products<0>(d);
SC_UNROLL
    for (int i = 0; i < kColumns / 2; ++i) out->d[thread_x()][i] = static_cast<std::int16_t>(d[i]);
}

template <class T, int kColumns>
struct RowsProduct : Plain<RowsProduct<T, kColumns>> {
    static constexpr int kCapability = 90;
    using Input = RowsInput<kColumns>;
    using Output = RowsOutput<kColumns>;
    static void launch(const Input* in, Output* out) {
        const TensorMap b_map = matrix_map(in->b, kDepth, kColumns, kColumns, kDepth);
        cuda::launch("golden vectors", rows_kernel<T, kColumns>, Grid{}, kThreads, sizeof(RowsShared<kColumns>), 0, in, out, b_map);
    }
    static void draw(Random& random, Input& in) {
        for (auto& row : in.b) {
            for (std::uint16_t& element : row) element = random.small_bits<T>();
        }
        for (auto& fragment : in.a) {
            for (std::uint32_t& pair : fragment) pair = random.small_pair<T>();
        }
    }
};

// The same with a 2:4 sparse A, 256 columns wide.
constexpr int kSparseDepth = 2 * kDepth, kWide = 256, kBlocks = kWide / kTileElements, kBetween = 8;
struct SparseRowsInput {
    // Blocks of 64 columns, each 8 columns of the matrix further than the one before: few columns serve a wide product.
    alignas(128) std::uint16_t b[kSparseDepth][kTileElements + (kBlocks - 1) * kBetween];
    std::uint32_t a[kThreads][4], metadata[kThreads];
};
struct SparseRowsOutput {
    std::uint32_t word[kThreads];  // in which every register has its own weight
};
struct SparseRowsShared {
    std::uint16_t b[kBlocks][kSparseDepth][kTileElements];
    MBarrier full;
};

template <class T, int kSelector>
SC_GLOBAL void SC_BOUNDS(kThreads, 1) sparse_rows_kernel(const SparseRowsInput* in, SparseRowsOutput* out, SC_TENSOR_MAP b_map) {
    auto& shared = shared_memory<SparseRowsShared>();
    if (thread_x() == 0) {
        init_mbarrier(&shared.full, 1);
        fence_mbarrier_init();
        arrive_expecting(&shared.full, sizeof shared.b);
        for (int i = 0; i < kBlocks; ++i) copy_tile(shared.b[i], &b_map, i * kBetween, 0, &shared.full);
    }
    block_barrier();
    wait_phase(&shared.full, 0);
    float d[kWide / 2];
SC_UNROLL
    for (int i = 0; i < kWide / 2; ++i) d[i] = static_cast<float>(i);
    std::uint32_t a[4];
    for (int i = 0; i < 4; ++i) a[i] = in->a[thread_x()][i];
    fence_accumulators();
    multiply_sparse_rows_async<T, kSelector>(d, a, rows_descriptor(shared.b, sizeof shared.b[0]), in->metadata[thread_x()]);
    commit_products();
    wait_products<0>(d);
    std::uint32_t word = 0;
SC_UNROLL
    for (int i = 0; i < kWide / 2; ++i) word = word * 31u + static_cast<std::uint32_t>(static_cast<std::int32_t>(d[i]));
    out->word[thread_x()] = word;
}

template <class T, int kSelector>
struct SparseRowsProduct : Plain<SparseRowsProduct<T, kSelector>> {
    static constexpr int kCapability = 90;
    using Input = SparseRowsInput;
    using Output = SparseRowsOutput;
    static void launch(const Input* in, Output* out) {
        constexpr int kColumns = sizeof in->b[0] / 2;
        const TensorMap b_map = matrix_map(in->b, kSparseDepth, kColumns, kColumns, kSparseDepth);
        cuda::launch("golden vectors", sparse_rows_kernel<T, kSelector>, Grid{}, kThreads, sizeof(SparseRowsShared), 0, in, out, b_map);
    }
    static void draw(Random& random, Input& in) {
        for (auto& row : in.b) {
            for (std::uint16_t& element : row) element = random.small_bits<T>();
        }
        for (auto& fragment : in.a) {
            for (std::uint32_t& pair : fragment) pair = random.small_pair<T>();
        }
        for (std::uint32_t& word : in.metadata) word = random.metadata();
    }
};

// A product that begins a sum: what the registers held does not count.
constexpr int kStartRows = 64, kStartColumns = 128;
struct StartInput {
    alignas(128) std::uint16_t a[kStartRows][kDepth], b[kStartColumns][kDepth];
};
struct StartOutput {
    std::int16_t d[kThreads][kStartColumns / 2];
};
struct StartShared {
    std::uint16_t a[kStartRows][kTileElements], b[kStartColumns][kTileElements];
    MBarrier full;
};

template <class T>
SC_GLOBAL void SC_BOUNDS(kThreads, 1) start_kernel(const StartInput*, StartOutput* out, SC_TENSOR_MAP a_map, SC_TENSOR_MAP b_map) {
    auto& shared = shared_memory<StartShared>();
    if (thread_x() == 0) {
        init_mbarrier(&shared.full, 1);
        fence_mbarrier_init();
        arrive_expecting(&shared.full, sizeof shared.a + sizeof shared.b);
        copy_tile(shared.a, &a_map, 0, 0, &shared.full);
        copy_tile(shared.b, &b_map, 0, 0, &shared.full);
    }
    block_barrier();
    wait_phase(&shared.full, 0);
    float d[kStartColumns / 2];
SC_UNROLL
    for (int i = 0; i < kStartColumns / 2; ++i) d[i] = 1000.0f;
    fence_accumulators();
    start_product_async<T>(d, tile_descriptor(shared.a), tile_descriptor(shared.b));
    commit_products();
    wait_products<0>(d);
SC_UNROLL
    for (int i = 0; i < kStartColumns / 2; ++i) out->d[thread_x()][i] = static_cast<std::int16_t>(d[i]);
}

template <class T>
struct StartProduct : Plain<StartProduct<T>> {
    static constexpr int kCapability = 90;
    using Input = StartInput;
    using Output = StartOutput;
    static void launch(const Input* in, Output* out) {
        const TensorMap a_map = matrix_map(in->a, kStartRows, kDepth, kDepth, kStartRows);
        const TensorMap b_map = matrix_map(in->b, kStartColumns, kDepth, kDepth, kStartColumns);
        cuda::launch("golden vectors", start_kernel<T>, Grid{}, kThreads, sizeof(StartShared), 0, in, out, a_map, b_map);
    }
    static void draw(Random& random, Input& in) {
        for (auto& row : in.a) {
            for (std::uint16_t& element : row) element = random.small_bits<T>();
        }
        for (auto& row : in.b) {
            for (std::uint16_t& element : row) element = random.small_bits<T>();
        }
    }
};

// Boxes that reach over the edges of one of 2 x 3 matrices: what lies beyond is zero, not the next matrix.
constexpr int kBoxRows = 8, kRows = 11, kColumns = 70, kStride = 72, kThirds = 3, kFourths = 2, kBoxes = 3;
struct MatricesInput {
    alignas(128) std::uint16_t matrix[kFourths][kThirds][kRows][kStride];
    std::int32_t place[kBoxes][4];
};
struct MatricesOutput {
    std::uint16_t box[kBoxes][kBoxRows][kTileElements];  // as it lies in shared memory, swizzled
};
struct MatricesShared {
    std::uint16_t box[kBoxes][kBoxRows][kTileElements];
    MBarrier full;
};

SC_GLOBAL void SC_BOUNDS(kThreads, 1) matrices_kernel(const MatricesInput* in, MatricesOutput* out, SC_TENSOR_MAP map) {
    auto& shared = shared_memory<MatricesShared>();
    if (thread_x() == 0) {
        init_mbarrier(&shared.full, 1);
        fence_mbarrier_init();
        arrive_expecting(&shared.full, sizeof shared.box);
        for (int i = 0; i < kBoxes; ++i) {
            const std::int32_t(&at)[4] = in->place[i];
            copy_tile(shared.box[i], &map, at[0], at[1], at[2], at[3], &shared.full);
        }
    }
    block_barrier();
    wait_phase(&shared.full, 0);
    for (int i = static_cast<int>(thread_x()); i < kBoxes * kBoxRows * kTileElements; i += kThreads) {
        const int box = i / (kBoxRows * kTileElements), row = i / kTileElements % kBoxRows, column = i % kTileElements;
        out->box[box][row][column] = shared.box[box][row][column];
    }
}

struct ManyMatrices : Plain<ManyMatrices> {
    static constexpr int kCapability = 90;
    using Input = MatricesInput;
    using Output = MatricesOutput;
    static void launch(const Input* in, Output* out) {
        constexpr int kOne = kRows * kStride;
        const TensorMap map = matrices_map(in->matrix, {kRows, kColumns, kStride, kThirds, kOne, kFourths, kThirds * kOne}, kBoxRows);
        cuda::launch("golden vectors", matrices_kernel, Grid{}, kThreads, sizeof(MatricesShared), 0, in, out, map);
    }
    static void draw(Random& random, Input& in) {
        for (auto& fourth : in.matrix) {
            for (auto& third : fourth) {
                for (auto& row : third) {
                    for (std::uint16_t& element : row) element = static_cast<std::uint16_t>(random.bits());
                }
            }
        }
        for (auto& place : in.place) {
            const std::int32_t drawn[4] = {random.integer(-5, 40), random.integer(-3, 9), random.integer(0, kThirds - 1),
                                           random.integer(0, kFourths - 1)};
            std::memcpy(place, drawn, sizeof drawn);
        }
    }
};

}  // namespace

std::vector<Case> row_cases() {
    return {make_case<RowsProduct<BF16, 64>>("wgmma_rows_bf16_64", "wgmma.m64n64k16.f32.bf16.bf16, A in registers, B transposed"),
            make_case<RowsProduct<F16, 128>>("wgmma_rows_f16_128", "wgmma.m64n128k16.f32.f16.f16, A in registers, B transposed"),
            make_case<SparseRowsProduct<BF16, 0>>("wgmma_sp_rows_bf16", "wgmma.sp.m64n256k32, A in registers, B transposed, selector 0"),
            make_case<SparseRowsProduct<F16, 1>>("wgmma_sp_rows_f16", "wgmma.sp.m64n256k32, A in registers, B transposed, selector 1"),
            make_case<StartProduct<BF16>>("wgmma_start_bf16", "wgmma.m64n128k16.f32.bf16.bf16, scale-d 0"),
            make_case<StartProduct<F16>>("wgmma_start_f16", "wgmma.m64n128k16.f32.f16.f16, scale-d 0"),
            make_case<ManyMatrices>("tiles_4d", "cp.async.bulk.tensor.4d, out of bounds")};
}

}  // namespace sparsecore::cuda::golden
