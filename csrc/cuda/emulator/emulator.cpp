#include "cuda/emulator/emulator.h"

#include <ucontext.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <vector>

#include "core/dtype.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace sparsecore::cuda {
namespace {

constexpr std::size_t kStackBytes = 128 * 1024;

struct Fiber {
    ucontext_t context{};
    std::vector<char> stack = std::vector<char>(kStackBytes);
    bool done = true;
};

// Lanes publish into the slot of the current round; the next round uses the other slot, so that a fast lane cannot
// overwrite what a slow one has still to read.
struct Exchange {
    std::array<std::array<float, kWarpSize>, 2> values{};
    std::array<int, 2> lane_mask{};
    int arrived = 0;
    std::uint64_t round = 0;
};

struct Machine {
    std::array<Fiber, kWarpSize> fibers;
    Exchange exchange;
    ucontext_t scheduler{};
    const std::function<void()>* kernel = nullptr;
    std::exception_ptr failure;
    unsigned lane = 0;
    unsigned warp = 0;
    unsigned active = 0;
    unsigned block_threads = 0;
    Dim3 grid;
    Dim3 block;
    const void* scheduler_stack = nullptr;
    std::size_t scheduler_stack_bytes = 0;
};

thread_local Machine* machine = nullptr;

// The sanitizer must be told which stack is in use, or it takes a switch for an overflow.
void begin_switch([[maybe_unused]] void** saved, [[maybe_unused]] const void* stack, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(saved, stack, bytes);
#endif
}

void end_switch([[maybe_unused]] void* saved, [[maybe_unused]] const void** stack, [[maybe_unused]] std::size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(saved, stack, bytes);
#endif
}

void yield_to_scheduler() {
    Machine& m = *machine;
    void* saved = nullptr;
    begin_switch(&saved, m.scheduler_stack, m.scheduler_stack_bytes);
    swapcontext(&m.fibers[m.lane].context, &m.scheduler);
    end_switch(saved, nullptr, nullptr);
}

void fiber_main() {
    Machine& m = *machine;
    end_switch(nullptr, &m.scheduler_stack, &m.scheduler_stack_bytes);
    try {
        (*m.kernel)();
    } catch (...) {  // carried over to the scheduler's stack, which throws it again
        m.failure = std::current_exception();
    }
    m.fibers[m.lane].done = true;
    --m.active;
    begin_switch(nullptr, m.scheduler_stack, m.scheduler_stack_bytes);
    setcontext(&m.scheduler);
}

void resume(unsigned lane) {
    Machine& m = *machine;
    Fiber& fiber = m.fibers[lane];
    m.lane = lane;
    void* saved = nullptr;
    begin_switch(&saved, fiber.stack.data(), fiber.stack.size());
    swapcontext(&m.scheduler, &fiber.context);
    end_switch(saved, nullptr, nullptr);
}

void start_warp(unsigned lanes) {
    Machine& m = *machine;
    m.exchange = Exchange{};
    m.active = lanes;
    for (unsigned lane = 0; lane < lanes; ++lane) {
        Fiber& fiber = m.fibers[lane];
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, fiber_main, 0);
    }
}

void run_warp(unsigned lanes, LaneOrder order) {
    Machine& m = *machine;
    start_warp(lanes);
    while (m.active > 0) {
        const unsigned active_before = m.active;
        const std::uint64_t round_before = m.exchange.round;
        for (unsigned turn = 0; turn < lanes; ++turn) {
            const unsigned lane = order == LaneOrder::Forward ? turn : lanes - 1 - turn;
            if (!m.fibers[lane].done) resume(lane);
            if (m.failure) std::rethrow_exception(m.failure);
        }
        if (m.active == active_before && m.exchange.round == round_before) {
            throw std::runtime_error("emulator: lanes of one warp wait for a shuffle that others never reach");
        }
    }
}

}  // namespace

namespace emulator {

void launch(Dim3 grid, unsigned block_threads, const std::function<void()>& kernel, LaneOrder order) {
    Machine instance;
    instance.kernel = &kernel;
    instance.grid = grid;
    instance.block_threads = block_threads;
    machine = &instance;
    try {
        for (unsigned y = 0; y < grid.y; ++y) {
            for (unsigned x = 0; x < grid.x; ++x) {
                instance.block = {x, y};
                for (unsigned first = 0; first < block_threads; first += kWarpSize) {
                    instance.warp = first / kWarpSize;
                    const unsigned left = block_threads - first;
                    run_warp(left < kWarpSize ? left : kWarpSize, order);
                }
            }
        }
    } catch (...) {
        machine = nullptr;
        throw;
    }
    machine = nullptr;
}

}  // namespace emulator

unsigned thread_x() { return machine->warp * kWarpSize + machine->lane; }
unsigned block_x() { return machine->block.x; }
unsigned block_y() { return machine->block.y; }
unsigned block_dim_x() { return machine->block_threads; }
unsigned grid_dim_y() { return machine->grid.y; }

float shuffle_xor(float value, int lane_mask) {
    Machine& m = *machine;
    Exchange& exchange = m.exchange;
    const std::uint64_t round = exchange.round;
    const std::size_t slot = round & 1;
    const unsigned lane = m.lane;
    if (exchange.arrived > 0 && exchange.lane_mask[slot] != lane_mask) {
        throw std::runtime_error("emulator: lanes of one warp meet in different shuffles");
    }
    exchange.lane_mask[slot] = lane_mask;
    exchange.values[slot][lane] = value;
    if (++exchange.arrived == kWarpSize) {
        exchange.arrived = 0;
        ++exchange.round;
    }
    while (exchange.round == round) yield_to_scheduler();
    return exchange.values[slot][(lane ^ static_cast<unsigned>(lane_mask)) % kWarpSize];
}

float half_bits_to_float(std::uint16_t bits) { return core::f16_to_f32(bits); }
std::uint16_t float_to_half_bits(float value) { return core::f32_to_f16(value); }

std::uint32_t float_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

float bits_to_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace sparsecore::cuda
