// fp8 numbers, and sparse products of bytes by a warp and by a warpgroup, against definitions written another way.
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "cuda/emulator/launch.h"
#include "cuda/ptx/arithmetic.h"
#include "cuda/ptx/matrix_e4m3.h"
#include "cuda/ptx/tma.h"
#include "cuda/ptx/wgmma_bytes.h"
#include "harness.h"

using namespace sparsecore::cuda;

namespace {

// (-1)^s 2^(e - 7) (1 + f / 8), subnormal where e is 0.
double e4m3(unsigned code) {
    const int exponent = static_cast<int>(code >> 3 & 15), fraction = static_cast<int>(code & 7);
    if (exponent == 15 && fraction == 7) return NAN;
    const double size = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
    return code & 0x80 ? -size : size;
}

// The nearest of all codes with the sign of x; of two the even one.
unsigned nearest(float x) {
    unsigned best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (unsigned code = 0; code < 0x7f; ++code) {
        const double distance = std::isinf(x) ? 448 - e4m3(code) : std::fabs(std::fabs(static_cast<double>(x)) - e4m3(code));
        if (distance < least || (distance == least && code % 2 == 0)) {
            least = distance;
            best = code;
        }
    }
    return best | (std::signbit(x) ? 0x80u : 0u);
}

// A 2:4 sparse matrix of bytes, whole and by what is kept of it, and a matrix to multiply with, [columns][64].
struct Bytes {
    std::vector<std::array<unsigned, 64>> whole;
    std::vector<std::array<unsigned, 32>> kept, place;
    std::vector<std::array<unsigned, 64>> b;

    template <class Draw>
    Bytes(std::size_t rows, std::size_t columns, const Draw& draw) : whole(rows), kept(rows), place(rows), b(columns) {
        for (std::size_t row = 0; row < rows; ++row) {
            for (std::size_t i = 0; i < 32; i += 2) {
                place[row][i] = static_cast<unsigned>(harness::integer(0, 2));
                place[row][i + 1] = static_cast<unsigned>(harness::integer(place[row][i] + 1, 3));
                for (std::size_t j = i; j < i + 2; ++j) kept[row][j] = whole[row][i * 2 + place[row][j]] = draw();
            }
        }
        for (auto& column : b) {
            for (unsigned& byte : column) byte = draw();
        }
    }

    template <class Number>
    double sum(std::size_t row, std::size_t column, const Number& number) const {
        double sum = 0;
        for (std::size_t k = 0; k < 64; ++k) sum += number(whole[row][k]) * number(b[column][k]);
        return sum;
    }

    // Elements 0 to 3 (of 16) of a thread are columns 4t to 4t + 3 of row g, the next ones of row g + 8, then the columns + 16.
    void fragment(std::size_t first_row, unsigned lane, std::uint32_t (&a)[4], std::uint32_t& metadata) const {
        for (std::size_t i = 0; i < 16; ++i) {
            const std::size_t row = first_row + lane / 4 + (i / 4 % 2 == 1 ? 8 : 0), column = lane % 4 * 4 + i % 4 + (i < 8 ? 0 : 16);
            a[i / 4] = (i % 4 == 0 ? 0 : a[i / 4]) | kept[row][column] << (8 * (i % 4));
        }
        metadata = 0;
        const std::size_t row = first_row + lane / 4 + 8 * (lane & 1), half = (lane & 2) != 0 ? 16 : 0;
        for (std::size_t i = 0; i < 16; ++i) metadata |= place[row][half + i] << (2 * i);
    }
};

unsigned any_byte() { return static_cast<unsigned>(harness::integer(0, 255)); }
// No NaN, and small enough for sums of 64 to be exact in fp32.
unsigned small_e4m3() { return static_cast<unsigned>(harness::integer(0x30, 0x50) | harness::integer(0, 1) << 7); }
double signed_byte(unsigned byte) { return byte < 128 ? byte : static_cast<double>(byte) - 256; }

template <int kColumns>
struct Shared {
    alignas(1024) unsigned char b[kColumns][128];
    MBarrier full;
};

// D += A B by a warpgroup, B in the right or left half of a tile's rows.
template <int kColumns, class Sum, class Multiply, class Number>
void check_warpgroup(const Bytes& bytes, const Multiply& multiply, const Number& number) {
    const std::size_t half = static_cast<std::size_t>(harness::integer(0, 1));
    alignas(16) std::array<unsigned char, kColumns * 128> tile{};
    for (std::size_t r = 0; r < kColumns; ++r) {
        for (std::size_t k = 0; k < 64; ++k) {
            const std::size_t unit = half * 4 + k / 16;  // of 16 bytes, exchanged by the 128-byte swizzle
            tile[r * 128 + (unit ^ r % 8) * 16 + k % 16] = static_cast<unsigned char>(bytes.b[r][k]);
        }
    }
    for (const auto schedule : emulator::kSchedules) {
        emulator::launch({{}, 128, sizeof(Shared<kColumns>)}, schedule, [&] {
            auto& shared = shared_memory<Shared<kColumns>>();
            if (thread_x() == 0) {
                init_mbarrier(&shared.full, 1);
                arrive_expecting(&shared.full, sizeof shared.b);
                copy_bulk(shared.b, tile.data(), sizeof shared.b, &shared.full);
            }
            block_barrier();
            wait_phase(&shared.full, 0);
            const unsigned warp = thread_x() / 32, lane = thread_x() % 32;
            std::uint32_t a[4], metadata;
            bytes.fragment(warp * 16, lane, a, metadata);
            Sum d[kColumns / 2];
            for (int i = 0; i < kColumns / 2; ++i) d[i] = static_cast<Sum>(i);
            fence_accumulators();
            multiply(d, a, tile_descriptor(&shared.b[0][half * 64]), metadata);
            commit_products();
            wait_products<0>(d);
            for (std::size_t i = 0; i < kColumns / 2; ++i) {
                const std::size_t row = warp * 16 + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
                CHECK(static_cast<double>(d[i]) == bytes.sum(row, column, number) + static_cast<double>(i));
            }
        });
    }
}

}  // namespace

TEST(emulator_reads_every_fp8_number) {
    for (unsigned code = 0; code < 256; ++code) {
        const float got = to_float(E4M3{static_cast<std::uint8_t>(code)});
        CHECK(std::isnan(e4m3(code)) ? std::isnan(got) : got == e4m3(code) && std::signbit(got) == std::signbit(e4m3(code)));
    }
}

TEST(emulator_rounds_to_the_nearest_fp8_number) {
    std::vector<float> numbers{0.0f, -0.0f, INFINITY, -INFINITY, 448.0f, 464.0f, -480.0f, 1e30f, 0x1p-149f, 0x1p-10f, -0x1.8p-10f, 0x1.00002p-10f};
    for (unsigned code = 0; code < 0x7e; ++code) numbers.push_back(static_cast<float>((e4m3(code) + e4m3(code + 1)) / 2));  // ties
    for (int i = 0; i < 5000; ++i) numbers.push_back(std::ldexp(harness::normal(), static_cast<int>(harness::integer(-12, 9))));
    for (const float x : numbers) CHECK(pack_e4m3(x, -x) == (nearest(x) | nearest(-x) << 8));
    CHECK((pack_e4m3(NAN, 1.0f) & 0x7f) == 0x7f && pack_e4m3(NAN, 1.0f) >> 8 == 0x38);
}

TEST(emulator_turns_every_fp8_number_into_the_same_half) {
    for (unsigned code = 0; code < 256; ++code) {
        if (std::isnan(e4m3(code))) continue;
        unsigned codes[4], bytes = 0;
        for (unsigned i = 0; i < 4; ++i) {
            codes[i] = i == code % 4 ? code : static_cast<unsigned>(harness::integer(0, 0x7e));
            bytes |= codes[i] << (8 * i);
        }
        std::uint32_t pairs[2];
        unpack_e4m3(pairs, bytes);
        for (unsigned i = 0; i < 4; ++i) {
            const float got = to_float(F16{static_cast<std::uint16_t>(pairs[i / 2] >> (16 * (i % 2)))});
            CHECK(got == e4m3(codes[i]) && std::signbit(got) == std::signbit(e4m3(codes[i])));
        }
    }
}

TEST(emulator_multiplies_fp8_by_the_layout_of_the_isa) {
    const Bytes bytes(16, 8, small_e4m3);
    for (const auto schedule : emulator::kSchedules) {
        emulator::launch({}, schedule, [&] {
            const unsigned lane = thread_x();
            std::uint32_t a[4], b[4], metadata;
            bytes.fragment(0, lane, a, metadata);
            for (std::size_t i = 0; i < 16; ++i) {
                b[i / 4] = (i % 4 == 0 ? 0 : b[i / 4]) | bytes.b[lane / 4][i / 4 * 16 + lane % 4 * 4 + i % 4] << (8 * (i % 4));
            }
            float d[4] = {1, 2, 3, 4};
            multiply_sparse_e4m3(d, a, b, metadata);
            for (std::size_t i = 0; i < 4; ++i) {
                CHECK(d[i] == bytes.sum(lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2, e4m3) + static_cast<double>(i) + 1);
            }
        });
    }
}

TEST(emulator_multiplies_sparse_bytes_of_a_warpgroup) {
    check_warpgroup<64, std::int32_t>(
        Bytes(64, 64, any_byte), [](auto&&... operands) { multiply_sparse_bytes_async<64>(operands...); }, signed_byte);
    check_warpgroup<128, std::int32_t>(
        Bytes(64, 128, any_byte), [](auto&&... operands) { multiply_sparse_bytes_async<128>(operands...); }, signed_byte);
    check_warpgroup<64, float>(
        Bytes(64, 64, small_e4m3), [](auto&&... operands) { multiply_sparse_e4m3_async<64>(operands...); }, e4m3);
    check_warpgroup<256, float>(
        Bytes(64, 256, small_e4m3), [](auto&&... operands) { multiply_sparse_e4m3_async<256>(operands...); }, e4m3);
}
