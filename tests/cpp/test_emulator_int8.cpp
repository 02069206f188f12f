// Products of bytes on the emulator against a definition written another way.
#include <array>

#include "cuda/emulator/launch.h"
#include "cuda/ptx/matrix_int8.h"
#include "harness.h"

using namespace sparsecore::cuda;

namespace {

// Byte `index` of a fragment's registers, in the order in which the PTX ISA numbers the elements of a thread.
std::uint32_t& set_byte(std::uint32_t* registers, int index, std::uint32_t value) {
    return registers[index / 4] |= (value & 0xffu) << (8 * (index % 4));
}

using Multiply = void (*)(std::int32_t (&)[4], const std::uint32_t (&)[4], const std::uint32_t (&)[2]);

// `least` and `most`: of the bytes of A.
void check_product(Multiply multiply, int least, int most) {
    std::array<std::array<int, 32>, 16> a{};
    std::array<std::array<int, 8>, 32> b{};
    for (auto& row : a) {
        for (int& value : row) value = static_cast<int>(harness::integer(least, most));
    }
    for (auto& row : b) {
        for (int& value : row) value = static_cast<int>(harness::integer(-128, 127));
    }
    for (const auto schedule : emulator::kSchedules) {
        std::array<std::array<int, 8>, 16> d{};
        emulator::launch({{}, 32, 0}, schedule, [&] {
            const int lane = static_cast<int>(thread_x()), group = lane >> 2, thread = lane & 3;
            std::uint32_t a_registers[4] = {}, b_registers[2] = {};
            for (int i = 0; i < 16; ++i) {
                const bool upper = i < 4 || (i >= 8 && i < 12);
                const auto row = static_cast<std::size_t>(upper ? group : group + 8);
                const auto column = static_cast<std::size_t>(thread * 4 + (i & 3) + (i < 8 ? 0 : 16));
                set_byte(a_registers, i, static_cast<std::uint32_t>(a[row][column]));
            }
            for (int i = 0; i < 8; ++i) {
                const auto row = static_cast<std::size_t>(thread * 4 + (i & 3) + (i < 4 ? 0 : 16));
                set_byte(b_registers, i, static_cast<std::uint32_t>(b[row][static_cast<std::size_t>(group)]));
            }
            std::int32_t sums[4] = {1, 2, 3, 4};
            multiply(sums, a_registers, b_registers);
            for (int i = 0; i < 4; ++i) {
                d[static_cast<std::size_t>(i < 2 ? group : group + 8)][static_cast<std::size_t>(thread * 2 + (i & 1))] = sums[i] - i - 1;
            }
        });
        for (std::size_t row = 0; row < 16; ++row) {
            for (std::size_t column = 0; column < 8; ++column) {
                int sum = 0;
                for (std::size_t i = 0; i < 32; ++i) sum += a[row][i] * b[i][column];
                CHECK(d[row][column] == sum);
            }
        }
    }
}

}  // namespace

TEST(emulator_multiplies_bytes_by_the_layout_of_the_isa) {
    check_product(multiply_bytes, 0, 255);
    check_product(multiply_signed_bytes, -128, 127);
}
