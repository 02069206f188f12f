// Runs a CUDA kernel on the host: the threads of a block or cluster as fibers, one block or cluster after another, on the calling OS
// thread.
//
// What it models: indices, shared memory (filled with NaN at the start of a block), barriers, warp and warpgroup instructions, and
// asynchronous copies and products, in six schedules. A right kernel gives the same bits in all of them; a missing wait
// or barrier shows in at least one. What it does not model: timing, weaker memory ordering than these schedules, bank conflicts.
#pragma once

#include <array>
#include <cstddef>
#include <functional>

namespace sparsecore::cuda::emulator {

struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
};

// Which thread goes on when several can: each in turn, or always those of the first or of the last warp that can.
enum class Order { RoundRobin, FirstWarp, LastWarp };
// When asynchronous work takes effect: as late or as early as it may.
enum class Async { Lazy, Eager };

struct Schedule {
    Order order = Order::RoundRobin;
    Async async = Async::Lazy;
};

inline constexpr std::array<Schedule, 6> kSchedules{{{Order::RoundRobin, Async::Lazy},
                                                     {Order::FirstWarp, Async::Lazy},
                                                     {Order::LastWarp, Async::Lazy},
                                                     {Order::RoundRobin, Async::Eager},
                                                     {Order::FirstWarp, Async::Eager},
                                                     {Order::LastWarp, Async::Eager}}};

struct Launch {
    Dim3 grid;
    unsigned threads = 32;        // of a block
    std::size_t shared_bytes = 0;
    unsigned cluster = 1;  // so many neighbours in x run at the same time and reach each other's shared memory
};

// Runs `kernel` once for every thread of every block. Throws std::runtime_error where the outcome on a GPU would be undefined
// (threads that wait for others forever, misaligned addresses, ...), and passes on what the kernel throws.
void launch(const Launch& launch, Schedule schedule, const std::function<void()>& kernel);

}  // namespace sparsecore::cuda::emulator
