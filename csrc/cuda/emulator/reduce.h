// ptx/reduce.h on the host.
#pragma once

#include "cuda/emulator/thread.h"

namespace sparsecore::cuda {

namespace emulator {

// Gives every lane the values of all, put together by Combine.
template <class Combine>
std::uint32_t reduce(const char* what, std::uint32_t value) {
    meet(Group::Warp, what, 0, &value, [](void* const* lanes, std::uint64_t) {
        std::uint32_t all = 0;
        for (int i = 0; i < kWarpSize; ++i) all = Combine::of(all, *static_cast<std::uint32_t*>(lanes[i]));
        for (int i = 0; i < kWarpSize; ++i) *static_cast<std::uint32_t*>(lanes[i]) = all;
    });
    return value;
}

struct Add {
    static std::uint32_t of(std::uint32_t a, std::uint32_t b) { return a + b; }
};
struct Or {
    static std::uint32_t of(std::uint32_t a, std::uint32_t b) { return a | b; }
};

}  // namespace emulator

inline std::uint32_t reduce_add(std::uint32_t value) { return emulator::reduce<emulator::Add>("redux.add", value); }
inline std::uint32_t reduce_or(std::uint32_t value) { return emulator::reduce<emulator::Or>("redux.or", value); }

}  // namespace sparsecore::cuda
