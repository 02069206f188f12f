// ptx/thread.h on the host.
#pragma once

#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "cuda/emulator/block.h"

namespace sparsecore::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;

inline unsigned thread_x() { return emulator::thread_index(); }
inline unsigned block_x() { return emulator::block_place().x; }
inline unsigned block_y() { return emulator::block_place().y; }
inline unsigned block_z() { return emulator::block_place().z; }
inline unsigned block_dim_x() { return emulator::launch_shape().threads; }
inline unsigned grid_dim_x() { return emulator::launch_shape().grid.x; }
inline unsigned grid_dim_y() { return emulator::launch_shape().grid.y; }

template <class T>
T& shared_memory() {
    return *static_cast<T*>(emulator::shared_bytes(sizeof(T)));
}

inline void block_barrier() { emulator::meet_at_barrier(0, block_dim_x()); }
inline bool block_barrier_any(bool predicate) { return emulator::vote_at_barrier(predicate); }
inline void named_barrier(int id, int threads) { emulator::meet_at_barrier(id, static_cast<unsigned>(threads)); }

inline float half_bits_to_float(std::uint16_t bits) { return core::f16_to_f32(bits); }
inline std::uint16_t float_to_half_bits(float value) { return core::f32_to_f16(value); }
inline std::uint32_t float_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float bits_to_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline int count_bits(std::uint32_t bits) { return __builtin_popcount(bits); }
inline int lowest_bit(std::uint32_t bits) { return __builtin_ffs(static_cast<int>(bits)) - 1; }

}  // namespace sparsecore::cuda
