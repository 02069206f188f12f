// What the emulated GPU refuses at a launch, as a GPU does.
#include <array>
#include <cstdint>
#include <utility>

#include "cuda/runtime/launch.h"
#include "cuda/runtime/tensor_map.h"
#include "harness.h"
#include "on_device.h"

using namespace sparsecore;

// KB by capability: "maximum amount of shared memory per thread block" of the CUDA C++ programming guide.
TEST(emulator_refuses_more_shared_memory_than_a_block_has) {
    for (const auto& [capability, most] : {std::pair{80, 163}, {86, 99}, {87, 163}, {89, 99}, {90, 227}, {100, 227}, {120, 99}}) {
        const harness::OnDevice device(capability);
        const auto launch = [](std::size_t shared) { cuda::launch("a test", [] {}, {}, 32, shared, 0); };
        const std::size_t bytes = std::size_t{1024} * static_cast<std::size_t>(most);
        launch(bytes);
        const long before = cuda::emulator::device().launches;
        CHECK_ERROR("LaunchError", launch(bytes + 1));
        CHECK(cuda::emulator::device().launches == before);
    }
}

TEST(emulator_refuses_matrices_that_the_driver_does_not_take) {
    alignas(16) static std::array<std::uint16_t, 64> data;
    constexpr int64_t kFar = int64_t{1} << 39;
    struct Case {
        int64_t offset, rows, columns, stride;
        int box_rows;
    };
    for (const Case& c : {Case{0, 1, 16, 16, 8}, {0, 4, 9, 16, 256}, {8, 4, 16, kFar - 8, 1}}) {
        CHECK(cuda::matrix_map(data.data() + c.offset, c.rows, c.columns, c.stride, c.box_rows).columns == c.columns);
    }
    for (const Case& c : {Case{4, 4, 16, 16, 8}, {0, 4, 16, 0, 8}, {0, 4, 16, 8, 8}, {0, 4, 16, 20, 8}, {0, 4, 16, kFar, 8}, {0, 4, 16, 16, 0},
                          {0, 4, 16, 16, 257}, {0, 0, 16, 16, 8}, {0, 4, 0, 16, 8}, {0, (int64_t{1} << 32) + 1, 16, 16, 8}}) {
        CHECK_ERROR("LaunchError", cuda::matrix_map(data.data() + c.offset, c.rows, c.columns, c.stride, c.box_rows));
    }
    cuda::matrices_map(data.data(), {4, 16, 32, 2, 16, 1, 0}, 8);  // heads that take turns in a token, and one batch
    CHECK_ERROR("LaunchError", cuda::matrices_map(data.data(), {4, 16, 32, 2, 0, 1, 0}, 8));
    CHECK_ERROR("LaunchError", cuda::matrices_map(data.data(), {4, 16, 32, 2, 16, 2, 12}, 8));
}
