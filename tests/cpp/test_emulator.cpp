// The emulator itself: what it reports, and its instructions against definitions written another way.
#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "cuda/emulator/device.h"
#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/bits.h"
#include "cuda/ptx/matrix.h"
#include "cuda/ptx/reduce.h"
#include "cuda/ptx/trap.h"
#include "cuda/ptx/warp.h"
#include "cuda/ptx/wgmma.h"
#include "cuda/ptx/tma.h"
#include "harness.h"

using namespace sparsecore::cuda;
using emulator::Async;
using emulator::Order;
using emulator::kSchedules;

namespace {

void run(unsigned threads, const std::function<void()>& kernel, emulator::Schedule schedule = {}, std::size_t shared = 0) {
    emulator::launch({{}, threads, shared}, schedule, kernel);
}

// The report holds `part`.
void check_fault(const std::string& part, unsigned threads, const std::function<void()>& kernel, std::size_t shared = 0) {
    for (const auto schedule : kSchedules) {
        try {
            run(threads, kernel, schedule, shared);
        } catch (const std::runtime_error& error) {
            if (std::string(error.what()).find(part) == std::string::npos) {
                harness::fail(__FILE__, __LINE__, "expected '" + part + "', got: " + error.what());
            }
            continue;
        }
        harness::fail(__FILE__, __LINE__, "not reported: " + part);
    }
}

std::uint16_t bf16(float value) {
    std::uint16_t bits;
    sparsecore::core::store_float(&bits, 0, sparsecore::core::DType::BF16, value);
    return bits;
}

float small() { return static_cast<float>(harness::integer(-8, 8)) / 4.0f; }

// A matrix of small numbers that bf16 holds exactly.
struct Matrix {
    int rows, columns;
    std::vector<float> values;
    Matrix(int r, int c) : rows(r), columns(c), values(static_cast<std::size_t>(r * c)) {
        for (float& value : values) value = small();
    }
    float at(int r, int c) const { return values[static_cast<std::size_t>(r * columns + c)]; }
    std::uint32_t pair(int r, int c) const { return bf16(at(r, c)) | static_cast<std::uint32_t>(bf16(at(r, c + 1))) << 16; }
    std::uint32_t pair_down(int r, int c) const {
        return bf16(at(r, c)) | static_cast<std::uint32_t>(bf16(at(r + 1, c))) << 16;
    }
};

// 2:4: the kept half, two places for every group of four columns, and the whole.
struct SparseMatrix {
    Matrix kept, whole;
    std::vector<int> places;
    SparseMatrix(int rows, int columns) : kept(rows, columns / 2), whole(rows, columns), places(kept.values.size()) {
        std::fill(whole.values.begin(), whole.values.end(), 0.0f);
        for (std::size_t i = 0; i < places.size(); i += 2) {
            const int first = static_cast<int>(harness::integer(0, 2));
            places[i] = first;
            places[i + 1] = static_cast<int>(harness::integer(first + 1, 3));
            for (std::size_t j = i; j < i + 2; ++j) {
                whole.values[i * 2 + static_cast<std::size_t>(places[j])] = kept.values[j];
            }
        }
    }
    std::uint32_t metadata(int row, int first_kept) const {
        std::uint32_t bits = 0;
        for (int i = 0; i < 8; ++i) {
            bits |= static_cast<std::uint32_t>(places[static_cast<std::size_t>(row * kept.columns + first_kept + i)]) << (2 * i);
        }
        return bits;
    }
};

float product(const Matrix& a, const Matrix& b, int row, int column) {
    float sum = 0.0f;
    for (int k = 0; k < a.columns; ++k) sum += a.at(row, k) * b.at(k, column);
    return sum;
}

void check_result(const float (&d)[4], const Matrix& a, const Matrix& b, int g, int t) {
    CHECK(d[0] == product(a, b, g, 2 * t) && d[1] == product(a, b, g, 2 * t + 1));
    CHECK(d[2] == product(a, b, g + 8, 2 * t) && d[3] == product(a, b, g + 8, 2 * t + 1));
}

}  // namespace

TEST(emulator_multiplies_fragments) {
    const Matrix a(16, 16), b(16, 8);
    run(32, [&] {
        const int g = static_cast<int>(thread_x()) / 4, t = static_cast<int>(thread_x()) % 4;
        const std::uint32_t fa[4] = {a.pair(g, 2 * t), a.pair(g + 8, 2 * t), a.pair(g, 2 * t + 8), a.pair(g + 8, 2 * t + 8)};
        const std::uint32_t fb[2] = {b.pair_down(2 * t, g), b.pair_down(2 * t + 8, g)};
        float d[4] = {};
        multiply<BF16>(d, fa, fb);
        check_result(d, a, b, g, t);
    });
}

TEST(emulator_multiplies_sparse_fragments) {
    const SparseMatrix a(16, 32);
    const Matrix b(32, 8);
    const auto kernel = [&](auto selector) {
        const int g = static_cast<int>(thread_x()) / 4, t = static_cast<int>(thread_x()) % 4;
        const Matrix& kept = a.kept;
        const std::uint32_t fa[4] = {kept.pair(g, 2 * t), kept.pair(g + 8, 2 * t), kept.pair(g, 2 * t + 8),
                                     kept.pair(g + 8, 2 * t + 8)};
        std::uint32_t fb[4];
        for (int r = 0; r < 4; ++r) fb[r] = b.pair_down(8 * r + 2 * t, g);
        constexpr int kSelector = decltype(selector)::value;
        const int part = t - 2 * kSelector;  // lanes of the other selector bring nonsense, which is not read
        const std::uint32_t metadata =
            part == 0 || part == 1 ? a.metadata(g, part * 8) | a.metadata(g + 8, part * 8) << 16 : 0u;
        float d[4] = {};
        multiply_sparse<BF16, kSelector>(d, fa, fb, metadata);
        check_result(d, a.whole, b, g, t);
    };
    run(32, [&] { kernel(std::integral_constant<int, 0>()); });
    run(32, [&] { kernel(std::integral_constant<int, 1>()); });
    check_fault("does not ascend", 32, [] {
        float d[4] = {};
        const std::uint32_t a4[4] = {}, b4[4] = {};
        multiply_sparse<BF16, 0>(d, a4, b4, 0);
    });
}

TEST(emulator_loads_matrices) {
    struct Shared {
        alignas(16) std::uint16_t tile[32][8];
    };
    for (const bool transposed : {false, true}) {
        run(
            32,
            [&] {
                auto& shared = shared_memory<Shared>();
                const auto lane = static_cast<int>(thread_x());
                for (int i = 0; i < 8; ++i) shared.tile[lane][i] = static_cast<std::uint16_t>(lane * 8 + i);
                block_barrier();
                std::uint32_t tile[4];
                transposed ? load_matrix_x4_transposed(tile, shared.tile[lane]) : load_matrix_x4(tile, shared.tile[lane]);
                for (int m = 0; m < 4; ++m) {
                    for (int i = 0; i < 2; ++i) {
                        const int across = lane / 4, along = lane % 4 * 2 + i;
                        const int row = transposed ? along : across, column = transposed ? across : along;
                        CHECK((tile[m] >> (16 * i) & 0xffff) == static_cast<std::uint32_t>((m * 8 + row) * 8 + column));
                    }
                }
            },
            {}, sizeof(Shared));
    }
}

TEST(emulator_exchanges_values) {
    run(64, [] {
        const unsigned lane = thread_x() % 32;
        CHECK(shuffle_xor(thread_x(), 5) % 32 == (lane ^ 5));
        CHECK(shuffle_up(lane, 3) == (lane < 3 ? lane : lane - 3));
        CHECK(shuffle(thread_x(), static_cast<int>(31 - lane)) % 32 == 31 - lane);
        CHECK(ballot(lane % 3 == 0) == 0x49249249u);
    });
}

TEST(emulator_shifts_and_chooses_bytes) {
    run(32, [] {
        const std::uint64_t both = 0x8877665544332211u;
        std::uint32_t selector = 0, expected = 0;
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned byte = (thread_x() * 5 + i * 3) % 8;
            selector |= byte << (4 * i);
            expected |= static_cast<std::uint32_t>(both >> (8 * byte) & 0xff) << (8 * i);
        }
        CHECK(choose_bytes(0x44332211u, 0x88776655u, selector | 0xffff0000u) == expected);
        CHECK(shift_left(3, thread_x()) == static_cast<std::uint32_t>(std::uint64_t{3} << thread_x()));
        CHECK(shift_left(3, 32 + thread_x()) == 0 && shift_left(3, thread_x() - 32) == 0);
        CHECK(shift_left_wrapped(3, thread_x() | 0x4560u) == shift_left(3, thread_x()));
    });
}

TEST(emulator_reports_what_a_gpu_leaves_undefined) {
    check_fault("threads that never get there", 32, [] {
        if (thread_x() != 3) shuffle_xor(1.0f, 1);
    });
    check_fault("meets", 32, [] { shuffle_xor(1.0f, thread_x() < 16 ? 1 : 2); });
    check_fault("a barrier", 64, [] {
        if (thread_x() < 32) block_barrier();
    });
    check_fault("multiple of 16", 32, [] {
        auto& bytes = shared_memory<std::array<unsigned char, 64>>();
        copy_async_16(&bytes[8], &bytes[0], 16);
    }, 64);
    check_fault("was not initialised", 32, [] { arrive(&shared_memory<MBarrier>()); }, sizeof(MBarrier));
    check_fault("bytes of shared memory", 32, [] { shared_memory<int>(); }, 8);
}

TEST(emulator_lets_copies_land_late_or_early) {
    struct Shared {
        alignas(16) std::uint32_t word[4];
    };
    alignas(16) const std::uint32_t source[4] = {1, 2, 3, 4};
    for (const auto schedule : kSchedules) {
        run(32, [&] {
            auto& shared = shared_memory<Shared>();
            if (thread_x() == 0) {
                copy_async_16(shared.word, source, 12);
                commit_copies();
                CHECK((shared.word[0] == 1) == (schedule.async == Async::Eager));  // else the poison is still there
                wait_copies<0>();
                CHECK(shared.word[0] == 1 && shared.word[2] == 3 && shared.word[3] == 0);
            }
        }, schedule, sizeof(Shared));
    }
}

TEST(emulator_multiplies_tiles_of_a_warpgroup) {
    constexpr int kColumns = 64;
    struct Shared {
        std::uint16_t a[64][64], b[kColumns][64];
        MBarrier full;
    };
    const SparseMatrix a(64, 64);
    const Matrix b(64, kColumns);
    std::vector<std::uint16_t> kept, across;
    for (const float value : a.kept.values) kept.push_back(bf16(value));
    for (int column = 0; column < kColumns; ++column) {
        for (int k = 0; k < 64; ++k) across.push_back(bf16(b.at(k, column)));
    }
    const TensorMap map_a{kept.data(), 32, 64, 32, 64}, map_b{across.data(), 64, kColumns, 64, kColumns};
    for (const auto schedule : kSchedules) {
        run(128, [&] {
            auto& shared = shared_memory<Shared>();
            const int thread = static_cast<int>(thread_x()), row = thread / 32 * 16 + thread % 32 / 4, part = thread % 4;
            if (thread == 0) {
                init_mbarrier(&shared.full, 1);
                fence_mbarrier_init();
                arrive_expecting(&shared.full, sizeof(shared.a) + sizeof(shared.b));
                copy_tile(shared.a, &map_a, 0, 0, &shared.full);
                copy_tile(shared.b, &map_b, 0, 0, &shared.full);
            }
            block_barrier();
            wait_phase(&shared.full, 0);
            float d[kColumns / 2] = {};
            fence_accumulators();
            for (int step = 0; step < 2; ++step) {  // 32 columns: 64 bytes of B's rows, 32 of A's
                const int first = step * 16 + part % 2 * 8;
                const std::uint32_t metadata = a.metadata(row, first) | a.metadata(row + 8, first) << 16;
                const auto b_tile = tile_descriptor(&shared.b[0][step * 32]);
                if (step == 0) {
                    multiply_sparse_async<BF16, kColumns, 0>(d, tile_descriptor(&shared.a[0][step * 16]), b_tile, metadata);
                    continue;
                }
                // From registers, and with the metadata in the other pair of lanes.
                const Matrix& m = a.kept;
                const int c = 16 + 2 * part;
                const std::uint32_t fa[4] = {m.pair(row, c), m.pair(row + 8, c), m.pair(row, c + 8), m.pair(row + 8, c + 8)};
                multiply_sparse_async<BF16, kColumns, 1>(d, fa, b_tile, part < 2 ? 0 : metadata);
                commit_products();
                wait_products<0>(d);  // before the registers go
            }
            for (int i = 0; i < kColumns / 2; ++i) {
                const int r = row + i / 2 % 2 * 8, column = i / 4 * 8 + part * 2 + i % 2;
                CHECK(d[i] == product(a.whole, b, r, column));
            }
        }, schedule, sizeof(Shared));
    }
}

TEST(emulator_refuses_products_of_stores_without_a_fence) {
    constexpr int kColumns = 64;
    struct Shared {
        std::uint16_t a[64][64], b[kColumns][64];
    };
    const auto multiply_stored = [](bool fenced) {
        auto& shared = shared_memory<Shared>();
        auto* words = reinterpret_cast<std::uint16_t*>(&shared);
        for (std::size_t i = thread_x(); i < sizeof(Shared) / 2; i += 128) words[i] = bf16(1.0f);
        if (fenced) fence_async_proxy();
        block_barrier();
        float d[kColumns / 2] = {};
        const std::uint32_t first_two = 0x44444444u;  // of each four: places 0 and 1
        fence_accumulators();
        multiply_sparse_async<BF16, kColumns, 0>(d, tile_descriptor(shared.a), tile_descriptor(shared.b), first_two);
        commit_products();
        wait_products<0>(d);
        for (const float sum : d) CHECK(sum == 16.0f);
    };
    run(128, [&] { multiply_stored(true); }, {}, sizeof(Shared));
    check_fault("without a fence", 128, [&] { multiply_stored(false); }, sizeof(Shared));
}

TEST(emulator_reduces_over_a_warp_and_votes_at_barriers) {
    for (const auto schedule : kSchedules) {
        std::uint32_t bits = 1, most = 40;
        run(96, [&] {
            const std::uint32_t thread = thread_x(), first = thread / 32 * 32;
            CHECK(reduce_add(thread) == 32 * first + 31 * 16);
            CHECK(reduce_or(1u << thread % 7) == 0x7fu);
            // Barriers without votes in between, and votes of one parity and the other.
            for (std::uint32_t round = 0; round < 200; ++round) {
                if (round % 3 == 2) block_barrier();
                CHECK(block_barrier_any(thread == round) == (round < 96));
            }
            atomic_or(&bits, 1u << thread % 5 << 3);
            atomic_max(&most, thread / 2);
        }, schedule);
        CHECK(bits == 0xf9u && most == 47);
    }
    check_fault("an index outside", 32, [] { if (thread_x() == 7) trap("an index outside"); });
}

TEST(emulator_gives_a_block_the_shared_memory_of_its_gpu) {
    const emulator::Device before = emulator::device();
    const std::pair<int, std::size_t> kilobytes[] = {{80, 163}, {86, 99}, {89, 99}, {90, 227}, {100, 227}, {120, 99}};
    for (const auto& [capability, most] : kilobytes) {
        emulator::device().capability = capability;
        emulator::begin_launch("kernel", most * 1024);
        CHECK_ERROR("LaunchError", emulator::begin_launch("kernel", most * 1024 + 1));
    }
    emulator::device() = before;
}
