#include "cuda/emulator/wgmma.h"

#include <array>
#include <vector>

#include "cuda/emulator/number.h"
#include "cuda/emulator/tma.h"

namespace sparsecore::cuda::emulator {

namespace {

constexpr int kThreads = 128, kRows = 64, kStored = 16;

// A queued product: tiles and registers are read when it runs, the accumulators written then.
struct Queued {
    const unsigned char *a, *b;  // a null: in registers
    std::array<const std::uint32_t*, kThreads> registers;
    std::array<float*, kThreads> d;
    std::array<std::uint32_t, kThreads> metadata;
    bool brain;
    int selector, columns, column_block_bytes;
    bool starts;
};

// Element of a tile whose rows are 128 bytes in the 128-byte swizzle; `start` may lie inside a row.
float tile_element(const unsigned char* start, int row, int column, bool brain) {
    const auto place = reinterpret_cast<std::uintptr_t>(start) + static_cast<std::uintptr_t>(row * kTileRowBytes + column * 2);
    std::uint16_t bits;
    std::memcpy(&bits, async_read(reinterpret_cast<const void*>(swizzled(place)), 2), 2);
    return number(bits, brain);
}

float b_element(const Queued& q, int k, int column) {
    if (q.column_block_bytes == 0) return tile_element(q.b, column, k, q.brain);
    return tile_element(q.b + column / 64 * q.column_block_bytes, k, column % 64, q.brain);
}

// B, [depth, columns].
std::vector<float> read_b(const Queued& q) {
    const int depth = q.selector == kDense ? kStored : 2 * kStored;
    std::vector<float> b(static_cast<std::size_t>(depth * q.columns));
    for (int i = 0; i < depth * q.columns; ++i) b[static_cast<std::size_t>(i)] = b_element(q, i / q.columns, i % q.columns);
    return b;
}

int thread_of_row(int row) { return row / 16 * 32 + row % 8 * 4; }

float a_element(const Queued& q, int row, int column) {
    if (q.a != nullptr) return tile_element(q.a, row, column, q.brain);
    const auto owner = static_cast<std::size_t>(thread_of_row(row) + column % 8 / 2);
    return number(half_word(q.registers[owner][row % 16 / 8 + column / 8 * 2], column % 2), q.brain);
}

void run(const Queued& q) {
    const std::vector<float> b = read_b(q);
    for (int row = 0; row < kRows; ++row) {
        float kept[kStored];
        int place[kStored];
        for (int i = 0; i < kStored; ++i) {
            kept[i] = a_element(q, row, i);
            place[i] = i;
            if (q.selector == kDense) continue;
            const std::uint32_t metadata = q.metadata[static_cast<std::size_t>(thread_of_row(row) + q.selector * 2 + i / 8)];
            place[i] = kept_place(half_word(metadata, row % 16 / 8), i % 8) + i / 8 * 16;
        }
        for (int column = 0; column < q.columns; ++column) {
            double sum = 0.0;
            for (int i = 0; i < kStored; ++i) {
                sum += static_cast<double>(kept[i]) * b[static_cast<std::size_t>(place[i] * q.columns + column)];
            }
            const auto owner = static_cast<std::size_t>(thread_of_row(row) + column % 8 / 2);
            float& d = q.d[owner][column / 8 * 4 + row % 16 / 8 * 2 + column % 2];
            d = static_cast<float>(q.starts ? sum : d + sum);
        }
    }
}

}  // namespace

void meet_warpgroup(const char* what, std::uint64_t detail, void (*work)(void* const*, std::uint64_t)) {
    meet(Group::Warpgroup, what, detail, nullptr, work);
}

void multiply_tiles(const TileProduct& operands, bool brain, int selector, int columns) {
    TileProduct own = operands;
    const auto detail = static_cast<std::uint64_t>(brain) | static_cast<std::uint64_t>(selector + 1) << 1 |
                        static_cast<std::uint64_t>(columns) << 3;
    const char* what = selector == kDense ? "wgmma" : "wgmma.sp";
    meet(Group::Warpgroup, what, detail, &own, [](void* const* threads, std::uint64_t constants) {
        Queued queued{};
        const auto* first = static_cast<const TileProduct*>(threads[0]);
        queued.a = first->a;
        queued.b = first->b;
        queued.column_block_bytes = first->column_block_bytes;
        queued.starts = first->starts;
        queued.brain = (constants & 1) != 0;
        queued.selector = static_cast<int>(constants >> 1 & 3) - 1;
        queued.columns = static_cast<int>(constants >> 3);
        for (std::size_t i = 0; i < kThreads; ++i) {
            const auto* one = static_cast<const TileProduct*>(threads[i]);
            const bool same = one->a == queued.a && one->b == queued.b && one->column_block_bytes == queued.column_block_bytes;
            if (!same) fault("wgmma: the threads of a warpgroup name different tiles");
            queued.registers[i] = one->registers;
            queued.d[i] = one->d;
            queued.metadata[i] = one->metadata;
        }
        products_of_warpgroup().add([queued] { run(queued); });
    });
}

}  // namespace sparsecore::cuda::emulator

namespace sparsecore::cuda {

void fence_accumulators() { emulator::meet_warpgroup("wgmma.fence", 0, [](void* const*, std::uint64_t) {}); }

void commit_products() {
    emulator::meet_warpgroup("wgmma.commit_group", 0,
                             [](void* const*, std::uint64_t) { emulator::products_of_warpgroup().commit(); });
}

void wait_products_pending(int pending) {
    emulator::meet_warpgroup("wgmma.wait_group", static_cast<std::uint64_t>(pending),
                             [](void* const*, std::uint64_t most) { emulator::products_of_warpgroup().wait(most); });
}

}  // namespace sparsecore::cuda
