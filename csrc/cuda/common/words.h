// 16 or 8 bytes of a lane: what one wide load or store moves.
#pragma once

#include <cstdint>

namespace sparsecore::cuda {

constexpr int kUnit = 8;  // 16-bit elements in 16 bytes

struct alignas(16) Words4 {
    std::uint32_t word[4];
};
struct alignas(8) Words2 {
    std::uint32_t word[2];
};

}  // namespace sparsecore::cuda
