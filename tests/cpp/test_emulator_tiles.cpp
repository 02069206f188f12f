// Bulk copies, and dense products of a warpgroup on tiles that are laid out by hand.
#include <array>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/dtype.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma.h"
#include "harness.h"

using namespace sparsecore::cuda;

namespace {

constexpr int kRows = 64, kColumns = 64, kDepth = 64;

using Tile = std::array<std::array<float, kDepth>, kRows>;

Tile random_tile() {
    Tile tile;
    for (auto& row : tile) {
        for (float& value : row) value = static_cast<float>(harness::integer(-8, 8)) / 4.0f;
    }
    return tile;
}

// The 128-byte swizzle by its definition in the PTX ISA: of eight rows of eight 16-byte units, row r has unit u at place u xor r.
std::array<std::uint16_t, kRows * kDepth> swizzled(const Tile& tile) {
    std::array<std::uint16_t, kRows * kDepth> bytes{};
    for (std::size_t r = 0; r < kRows; ++r) {
        for (std::size_t unit = 0; unit < kDepth / 8; ++unit) {
            for (std::size_t i = 0; i < 8; ++i) {
                sparsecore::core::store_float(&bytes[r * kDepth + (unit ^ r % 8) * 8 + i], 0, sparsecore::core::DType::BF16,
                                              tile[r][unit * 8 + i]);
            }
        }
    }
    return bytes;
}

struct Shared {
    alignas(1024) std::uint16_t a[kRows * kDepth], b[kColumns * kDepth];
    MBarrier full;
};

}  // namespace

TEST(emulator_multiplies_dense_tiles_that_bulk_copies_bring) {
    const Tile a = random_tile(), b = random_tile();
    alignas(16) const auto a_bytes = swizzled(a), b_bytes = swizzled(b);
    for (const auto schedule : emulator::kSchedules) {
        emulator::launch({{}, 128, sizeof(Shared)}, schedule, [&] {
            auto& shared = shared_memory<Shared>();
            if (thread_x() == 0) {
                init_mbarrier(&shared.full, 1);
                arrive_expecting(&shared.full, sizeof shared.a + sizeof shared.b);
                copy_bulk(shared.a, a_bytes.data(), sizeof shared.a, &shared.full);
                copy_bulk(shared.b, b_bytes.data(), sizeof shared.b, &shared.full);
            }
            block_barrier();
            wait_phase(&shared.full, 0);
            float d[kColumns / 2] = {};
            fence_accumulators();
            for (int k = 0; k < kDepth; k += 16) {
                multiply_async<BF16, kColumns>(d, tile_descriptor(&shared.a[k]), tile_descriptor(&shared.b[k]));
            }
            commit_products();
            wait_products<0>(d);
            const unsigned warp = thread_x() / 32, lane = thread_x() % 32;
            for (unsigned i = 0; i < kColumns / 2; ++i) {
                const std::size_t row = warp * 16 + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
                float sum = 0.0f;
                for (std::size_t k = 0; k < kDepth; ++k) sum += a[row][k] * b[column][k];
                CHECK(d[i] == sum);
            }
        });
    }
}

TEST(emulator_refuses_bulk_copies_that_the_hardware_does_not_take) {
    struct Bytes {
        alignas(16) unsigned char to[64];
        MBarrier full;
    };
    alignas(16) static unsigned char from[64] = {};
    for (const auto& [offset, bytes] : {std::pair{1, 16}, {0, 8}, {0, 0}}) {
        bool refused = false;
        try {
            emulator::launch({{}, 32, sizeof(Bytes)}, {}, [&, offset = offset, bytes = bytes] {
                auto& shared = shared_memory<Bytes>();
                if (thread_x() == 0) {
                    init_mbarrier(&shared.full, 1);
                    copy_bulk(shared.to, from + offset, bytes, &shared.full);
                }
                block_barrier();
            });
        } catch (const std::runtime_error& error) {
            refused = std::string(error.what()).find("cp.async.bulk") != std::string::npos;
        }
        CHECK(refused);
    }
}
