// Boxes of a matrix, and consecutive bytes, by the tensor memory accelerator: ptx/tma.h.
#include "cuda/golden/case.h"
#include "cuda/ptx/tma.h"
#include "cuda/runtime/tensor_map.h"

namespace sparsecore::cuda::golden {

namespace {

constexpr int kThreads = 128, kBoxRows = 16, kBoxColumns = 64;
constexpr int kRows = 20, kColumns = 70, kStride = 72;
constexpr int kBoxes = 4;

// Where the boxes begin: inside, over the right edge, over the last row, and over the first row and column.
struct TileInput {
    alignas(128) std::uint16_t matrix[kRows][kStride];
    std::int32_t column[kBoxes], row[kBoxes];
};
struct TileOutput {
    std::uint16_t box[kBoxes][kBoxRows][kBoxColumns];  // as it lies in shared memory, swizzled
};
struct TileShared {
    std::uint16_t box[kBoxes][kBoxRows][kBoxColumns];
    MBarrier full;
};
static_assert(sizeof TileShared::box % 1024 == 0);

SC_GLOBAL void SC_BOUNDS(kThreads, 1) tile_kernel(const TileInput* in, TileOutput* out, SC_TENSOR_MAP map) {
    auto& shared = shared_memory<TileShared>();
    if (thread_x() == 0) {
        init_mbarrier(&shared.full, 1);
        fence_mbarrier_init();
        arrive_expecting(&shared.full, sizeof shared.box);
        for (int i = 0; i < kBoxes; ++i) copy_tile(shared.box[i], &map, in->column[i], in->row[i], &shared.full);
    }
    block_barrier();
    wait_phase(&shared.full, 0);
    for (int i = static_cast<int>(thread_x()); i < kBoxes * kBoxRows * kBoxColumns; i += kThreads) {
        const int box = i / (kBoxRows * kBoxColumns), row = i / kBoxColumns % kBoxRows, column = i % kBoxColumns;
        out->box[box][row][column] = shared.box[box][row][column];
    }
}

struct Tiles : Plain<Tiles> {
    static constexpr int kCapability = 90;
    using Input = TileInput;
    using Output = TileOutput;
    static void launch(const Input* in, Output* out) {
        const TensorMap map = matrix_map(in->matrix, kRows, kColumns, kStride, kBoxRows);
        cuda::launch("golden vectors", tile_kernel, Grid{}, kThreads, sizeof(TileShared), 0, in, out, map);
    }
    static void draw(Random& random, Input& in) {
        for (auto& row : in.matrix) {
            for (std::uint16_t& element : row) element = static_cast<std::uint16_t>(random.bits());
        }
        const std::int32_t column[kBoxes] = {0, random.integer(8, 60), random.integer(1, 5), -random.integer(1, 9)};
        const std::int32_t row[kBoxes] = {0, random.integer(0, 4), random.integer(8, 19), -random.integer(1, 9)};
        std::memcpy(in.column, column, sizeof column);
        std::memcpy(in.row, row, sizeof row);
    }
};

// Two pieces of consecutive bytes.
struct Bulk : Plain<Bulk> {
    static constexpr int kCapability = 90, kThreads = cuda::golden::kThreads, kWords = 256, kSecond = 64;
    struct Shared {
        alignas(16) std::uint32_t word[kWords];
        MBarrier full;
    };
    static constexpr std::size_t kSharedBytes = sizeof(Shared);
    struct Input {
        alignas(16) std::uint32_t word[kWords];
    };
    struct Output {
        std::uint32_t word[kWords];
    };
    static SC_DEVICE void run(const Input& in, Output& out) {
        auto& shared = shared_memory<Shared>();
        if (thread_x() == 0) {
            init_mbarrier(&shared.full, 1);
            fence_mbarrier_init();
            arrive_expecting(&shared.full, sizeof shared.word);
            copy_bulk(&shared.word[0], &in.word[kSecond], (kWords - kSecond) * 4, &shared.full);
            copy_bulk(&shared.word[kWords - kSecond], &in.word[0], kSecond * 4, &shared.full);
        }
        block_barrier();
        wait_phase(&shared.full, 0);
        for (int i = static_cast<int>(thread_x()); i < kWords; i += kThreads) out.word[i] = shared.word[i];
    }
    static void draw(Random& random, Input& in) {
        for (std::uint32_t& word : in.word) word = random.bits();
    }
};

}  // namespace

std::vector<Case> tile_cases() {
    return {make_case<Bulk>("bulk", "cp.async.bulk, mbarrier.arrive.expect_tx"),
            make_case<Tiles>("tiles", "cp.async.bulk.tensor.2d, mbarrier.arrive.expect_tx, 128-byte swizzle, out of bounds")};
}

}  // namespace sparsecore::cuda::golden
