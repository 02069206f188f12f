// The emulated instructions that attention and gathered weights use, against definitions written another way.
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/emulator/launch.h"
#include "cuda/ptx/arithmetic.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma_transposed.h"
#include "harness.h"

using namespace sparsecore;
using namespace sparsecore::cuda;
using emulator::kSchedules;

namespace {

std::uint16_t bf16(float value) {
    BF16 element;
    store(&element, value);
    return element.bits;
}

// Small integers, whose products and sums are exact.
std::vector<std::uint16_t> integers(std::size_t count) {
    std::vector<std::uint16_t> values(count);
    for (std::uint16_t& value : values) value = bf16(static_cast<float>(harness::integer(-4, 4)));
    return values;
}

float value_of(std::uint16_t bits) { return to_float(BF16{bits}); }

}  // namespace

TEST(emulator_computes_powers_and_packs_pairs) {
    for (int i = -140; i < 100; ++i) CHECK(exp2_fast(static_cast<float>(i)) == std::ldexp(1.0f, i));
    CHECK(exp2_fast(-INFINITY) == 0.0f && std::isnan(exp2_fast(NAN)));
    CHECK(pack_pair<BF16>(1.0f, -2.0f) == 0xc0003f80u);
    CHECK(pack_pair<F16>(1.0f, -2.0f) == 0xc0003c00u);
    CHECK(pack_pair<BF16>(1.00390625f, 1.01171875f) == 0x3f823f80u);  // halves go to the even neighbour
}

TEST(emulator_copies_tiles_of_one_of_many_matrices) {
    constexpr int kRows = 5, kColumns = 24, kThirds = 3, kFourths = 2, kBox = 8;
    const std::vector<std::uint16_t> data = integers(kRows * kColumns * kThirds * kFourths);
    const auto at = [&](int c, int r, int third, int fourth) {  // rows lie beside the matrices of a fourth
        return data[static_cast<std::size_t>(((fourth * kRows + r) * kThirds + third) * kColumns + c)];
    };
    const TensorMap map{data.data(), kColumns, kRows, kThirds * kColumns, kBox, kThirds, kColumns, kFourths, kRows * kThirds * kColumns};
    struct Shared {
        std::uint16_t tile[kBox][64];
        MBarrier full;
    };
    for (const auto schedule : kSchedules) {
        emulator::launch({{1}, 32, sizeof(Shared)}, schedule, [&] {
            auto& shared = shared_memory<Shared>();
            if (thread_x() != 0) return;
            init_mbarrier(&shared.full, 1);
            arrive_expecting(&shared.full, sizeof shared.tile);
            copy_tile(shared.tile, &map, 8, 2, 1, 1, &shared.full);
            wait_phase(&shared.full, 0);
            for (int r = 0; r < kBox; ++r) {
                for (int c = 0; c < 64; ++c) {
                    const bool inside = r + 2 < kRows && c + 8 < kColumns;
                    // 16 bytes are a unit; units of a row are exchanged by the row's number.
                    CHECK(shared.tile[r][(c / 8 ^ r % 8) * 8 + c % 8] == (inside ? at(c + 8, r + 2, 1, 1) : 0));
                }
            }
        });
    }
}

TEST(emulator_has_no_more_registers_than_a_block) {
    const auto run = [](auto given, auto taken) {  // 168 a thread of 384
        for (const auto schedule : kSchedules) {
            emulator::launch({{1}, 384}, schedule, [&] {
                if (thread_x() < 128) return give_registers<given()>();
                take_registers<taken()>();
            });
        }
    };
    run(std::integral_constant<int, 40>{}, std::integral_constant<int, 232>{});
    run(std::integral_constant<int, 24>{}, std::integral_constant<int, 240>{});
    bool told = false;
    try {
        run(std::integral_constant<int, 32>{}, std::integral_constant<int, 240>{});
    } catch (const std::runtime_error& error) {
        told = std::string(error.what()).find("setmaxnreg.inc") != std::string::npos;
    }
    CHECK(told);
}

TEST(emulator_multiplies_scores_and_weights_of_a_warpgroup) {
    constexpr int kKeys = 128, kWidth = 128;  // S = Q K^T with 16 columns, then O = A V with A the integers of S, for 16 keys
    struct Shared {
        std::uint16_t q[64][64], k[kKeys][64], v[kWidth / 64][16][64];
        MBarrier full;
    };
    const std::vector<std::uint16_t> q = integers(64 * 64), k = integers(kKeys * 64), v = integers(16 * kWidth), a = integers(64 * 16);
    const TensorMap map_q{q.data(), 64, 64, 64, 64}, map_k{k.data(), 64, kKeys, 64, kKeys}, map_v{v.data(), kWidth, 16, kWidth, 16};
    for (const auto schedule : kSchedules) {
        emulator::launch({{1}, 128, sizeof(Shared)}, schedule, [&] {
            auto& shared = shared_memory<Shared>();
            const int thread = static_cast<int>(thread_x()), row = thread / 32 * 16 + thread % 32 / 4, part = thread % 4 * 2;
            if (thread == 0) {
                init_mbarrier(&shared.full, 1);
                fence_mbarrier_init();
                arrive_expecting(&shared.full, sizeof shared.q + sizeof shared.k + sizeof shared.v);
                copy_tile(shared.q, &map_q, 0, 0, &shared.full);
                copy_tile(shared.k, &map_k, 0, 0, &shared.full);
                for (int block = 0; block < kWidth / 64; ++block) copy_tile(shared.v[block], &map_v, block * 64, 0, &shared.full);
            }
            block_barrier();
            wait_phase(&shared.full, 0);
            float s[kKeys / 2], o[kWidth / 2];
            for (float& x : s) x = NAN;  // does not count
            for (float& x : o) x = 1.0f;
            const auto pair = [&](int r, int c) {
                std::uint32_t word;
                std::memcpy(&word, &a[static_cast<std::size_t>(r * 16 + c)], 4);
                return word;
            };
            const std::uint32_t weights[4] = {pair(row, part), pair(row + 8, part), pair(row, part + 8), pair(row + 8, part + 8)};
            fence_accumulators();
            start_product_async<BF16>(s, tile_descriptor(&shared.q[0][16]), tile_descriptor(&shared.k[0][16]));
            multiply_rows_async<BF16, kWidth>(o, weights, rows_descriptor(shared.v, sizeof shared.v[0]));
            commit_products();
            wait_products<0>(s);
            wait_products<0>(o);
            for (int i = 0; i < 64; ++i) {
                const int r = row + i / 2 % 2 * 8, column = i / 4 * 8 + part + i % 2;
                float score = 0.0f, sum = 1.0f;
                for (int d = 16; d < 32; ++d) score += value_of(q[static_cast<std::size_t>(r * 64 + d)]) * value_of(k[static_cast<std::size_t>(column * 64 + d)]);
                for (int key = 0; key < 16; ++key) sum += value_of(a[static_cast<std::size_t>(r * 16 + key)]) * value_of(v[static_cast<std::size_t>(key * kWidth + column)]);
                CHECK(s[i] == score && o[i] == sum);
            }
        });
    }
}

TEST(emulator_multiplies_sparse_weights_by_rows) {
    constexpr int kDepth = 32, kColumns = 256, kOfBlock = 64;
    struct Shared {
        std::uint16_t b[kColumns / kOfBlock][2 * kDepth][kOfBlock];  // two products: the second begins in the middle of the rows
        MBarrier full;
    };
    const std::vector<std::uint16_t> b = integers(2 * kDepth * kColumns);
    // A dense 64 x 32 for each product, two of four in a row not zero, and what the registers hold of it.
    std::vector<float> a(2 * 64 * kDepth, 0.0f);
    std::vector<std::uint32_t> kept(128 * 8, 0), metadata(128, 0);
    for (int product = 0; product < 2; ++product) {
        for (int row = 0; row < 64; ++row) {
            for (int group = 0; group < kDepth / 4; ++group) {
                const int first = harness::integer(0, 2), places[2] = {first, harness::integer(first + 1, 3)};
                for (int i = 0; i < 2; ++i) {
                    const float value = static_cast<float>(harness::integer(1, 5));
                    a[static_cast<std::size_t>((product * 64 + row) * kDepth + group * 4 + places[i])] = value;
                    const int column = group * 2 + i, warp = row / 16 * 32, quad = row % 8 * 4, lower = row % 16 / 8;  // of the kept 16
                    const int lane = warp + quad + column % 8 / 2, word = product * 4 + column / 8 * 2 + lower;
                    kept[static_cast<std::size_t>(lane * 8 + word)] |= std::uint32_t{bf16(value)} << (column % 2 * 16);
                    metadata[static_cast<std::size_t>(warp + quad + product * 2 + group / 4)] |=
                        static_cast<std::uint32_t>(places[i]) << (lower * 16 + group % 4 * 4 + i * 2);
                }
            }
        }
    }
    const TensorMap map{b.data(), kColumns, 2 * kDepth, kColumns, 2 * kDepth};
    for (const auto schedule : kSchedules) {
        emulator::launch({{1}, 128, sizeof(Shared)}, schedule, [&] {
            auto& shared = shared_memory<Shared>();
            const int thread = static_cast<int>(thread_x());
            if (thread == 0) {
                init_mbarrier(&shared.full, 1);
                fence_mbarrier_init();
                arrive_expecting(&shared.full, sizeof shared.b);
                for (int i = 0; i < kColumns / kOfBlock; ++i) copy_tile(shared.b[i], &map, i * kOfBlock, 0, &shared.full);
            }
            block_barrier();
            wait_phase(&shared.full, 0);
            float d[kColumns / 2];
            for (float& x : d) x = 2.0f;
            std::uint32_t own[2][4];
            std::memcpy(own, &kept[static_cast<std::size_t>(thread * 8)], sizeof own);
            const std::uint32_t word = metadata[static_cast<std::size_t>(thread)];
            fence_accumulators();
            multiply_sparse_rows_async<BF16, 0>(d, own[0], rows_descriptor(shared.b[0][0], sizeof shared.b[0]), word);
            multiply_sparse_rows_async<BF16, 1>(d, own[1], rows_descriptor(shared.b[0][kDepth], sizeof shared.b[0]), word);
            commit_products();
            wait_products<0>(d);
            for (int i = 0; i < kColumns / 2; ++i) {
                const int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + thread % 4 * 2 + i % 2;
                float sum = 2.0f;
                for (int k = 0; k < 2 * kDepth; ++k) {
                    sum += a[static_cast<std::size_t>((k / kDepth * 64 + row) * kDepth + k % kDepth)] *
                           value_of(b[static_cast<std::size_t>(k * kColumns + column)]);
                }
                CHECK(d[i] == sum);
            }
        });
    }
}
