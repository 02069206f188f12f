// Runs a CUDA kernel on the host: one fiber per thread, one warp at a time, on the calling OS thread.
//
// What it models: thread and block indices, and warp shuffles as rendezvous of all 32 lanes. A lane that ends while others
// wait for it, or a shuffle that meets a different one, is an error here, as it is undefined on a GPU. What it does
// not model: timing, memory ordering, shared memory and block barriers (no kernel uses them yet).
#pragma once

#include <cstdint>
#include <functional>

namespace sparsecore::cuda {

inline constexpr int kWarpSize = 32;

struct Dim3 {
    unsigned x = 1;
    unsigned y = 1;
};

// The order in which the lanes of a warp take their turns; a right kernel gives the same bits for each.
enum class LaneOrder { Forward, Reverse };

namespace emulator {

// Runs `kernel` once for every thread of every block. Throws std::runtime_error for a divergent shuffle, and passes on
// what the kernel throws.
void launch(Dim3 grid, unsigned block_threads, const std::function<void()>& kernel, LaneOrder order = LaneOrder::Forward);

}  // namespace emulator

unsigned thread_x();
unsigned block_x();
unsigned block_y();
unsigned block_dim_x();
unsigned grid_dim_y();
float shuffle_xor(float value, int lane_mask);
float half_bits_to_float(std::uint16_t bits);
std::uint16_t float_to_half_bits(float value);
std::uint32_t float_bits(float value);
float bits_to_float(std::uint32_t bits);

}  // namespace sparsecore::cuda
