#include "cuda/emulator/wgmma_bytes.h"

#include <array>

#include "cuda/emulator/number.h"
#include "cuda/emulator/tma.h"

namespace sparsecore::cuda::emulator {

namespace {

constexpr int kThreads = 128, kRows = 64, kStored = 32, kDepth = 64;

// A queued product: the tile and the registers are read when it runs, the accumulators written then.
struct Queued {
    std::array<ByteProduct, kThreads> thread;
    bool e4m3;
    int columns;
};

float byte_number(std::uint32_t bits, bool e4m3) {
    return e4m3 ? to_float(E4M3{static_cast<std::uint8_t>(bits)}) : static_cast<std::int8_t>(bits);
}

// B^T, [columns, kDepth].
std::vector<float> read_b(const Queued& q) {
    std::vector<float> b(static_cast<std::size_t>(q.columns * kDepth));
    for (std::size_t i = 0; i < b.size(); ++i) {
        const auto start = reinterpret_cast<std::uintptr_t>(q.thread[0].b);
        const std::uintptr_t place = swizzled(start + i / kDepth * kTileRowBytes + i % kDepth);
        b[i] = byte_number(*async_read(reinterpret_cast<const void*>(place), 1), q.e4m3);
    }
    return b;
}

// The kept elements of a row of A, and the row of B that each of them meets.
struct RowOfA {
    float value[kStored];
    int place[kStored];
};

RowOfA read_a(const Queued& q, int row) {
    RowOfA a{};
    const int first = row / 16 * 32 + row % 8 * 4, lower = row % 16 / 8;  // the first of the four threads with this row
    for (int i = 0; i < kStored; ++i) {
        const std::uint32_t word = q.thread[static_cast<std::size_t>(first + i % 16 / 4)].a[i / 16 * 2 + lower];
        const std::uint32_t metadata = q.thread[static_cast<std::size_t>(first + i / 16 * 2 + lower)].metadata;
        a.value[i] = byte_number(word >> (i % 4 * 8) & 0xffu, q.e4m3);
        a.place[i] = i / 16 * 32 + kept_place(metadata, i % 16);
    }
    return a;
}

// Integers wrap around as those of the hardware do. The products of one result are exact in double.
void add_to(const Queued& q, int row, int column, double sum) {
    const ByteProduct& owner = q.thread[static_cast<std::size_t>(row / 16 * 32 + row % 8 * 4 + column % 8 / 2)];
    const int index = column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
    if (q.e4m3) {
        float& d = static_cast<float*>(owner.d)[index];
        d = static_cast<float>(d + sum);
    } else {
        auto& d = static_cast<std::int32_t*>(owner.d)[index];
        d = static_cast<std::int32_t>(static_cast<std::uint32_t>(d) + static_cast<std::uint32_t>(static_cast<std::int32_t>(sum)));
    }
}

void run(const Queued& q) {
    const std::vector<float> b = read_b(q);
    for (int row = 0; row < kRows; ++row) {
        const RowOfA a = read_a(q, row);
        for (int column = 0; column < q.columns; ++column) {
            double sum = 0.0;
            for (int i = 0; i < kStored; ++i) {
                sum += static_cast<double>(a.value[i]) * b[static_cast<std::size_t>(column * kDepth + a.place[i])];
            }
            add_to(q, row, column, sum);
        }
    }
}

}  // namespace

void multiply_sparse_bytes(const ByteProduct& operands, bool e4m3, int columns) {
    ByteProduct own = operands;
    const auto detail = static_cast<std::uint64_t>(e4m3) | static_cast<std::uint64_t>(columns) << 1;
    meet(Group::Warpgroup, "wgmma.sp of bytes", detail, &own, [](void* const* threads, std::uint64_t constants) {
        Queued queued{};
        queued.e4m3 = (constants & 1) != 0;
        queued.columns = static_cast<int>(constants >> 1);
        for (std::size_t i = 0; i < kThreads; ++i) {
            queued.thread[i] = *static_cast<const ByteProduct*>(threads[i]);
            if (queued.thread[i].b != queued.thread[0].b) fault("wgmma: the threads of a warpgroup name different tiles");
        }
        products_of_warpgroup().add([queued] { run(queued); });
    });
}

}  // namespace sparsecore::cuda::emulator
