// ptx/tma.h on the host.
#pragma once

#include "cuda/emulator/mbarrier.h"

namespace sparsecore::cuda {

// A matrix of 16-bit elements in global memory and the box that is copied from it, whose rows are 128 bytes; or many such matrices.
struct TensorMap {
    const std::uint16_t* data;
    std::int64_t columns, rows, row_stride;  // in elements
    int box_rows;
    std::int64_t thirds = 1, third_stride = 0, fourths = 1, fourth_stride = 0;
};

namespace emulator {

inline constexpr int kTileRowBytes = 128;

// Whether the driver encodes such a map: rows lie 16-byte units apart, and do not overlap.
inline bool is_encodable(const TensorMap& map) {
    const auto is_stride = [](std::int64_t stride, std::int64_t least) { return stride % 8 == 0 && stride >= least && stride < std::int64_t{1} << 39; };
    const auto is_size = [](std::int64_t size) { return size > 0 && size <= std::int64_t{1} << 32; };
    return is_size(map.columns) && is_size(map.rows) && is_size(map.thirds) && is_size(map.fourths) && is_stride(map.row_stride, map.columns) &&
           (map.thirds == 1 || is_stride(map.third_stride, 8)) && (map.fourths == 1 || is_stride(map.fourth_stride, 8)) &&
           map.box_rows > 0 && map.box_rows <= 256;
}

// Where the 128-byte swizzle puts the byte at `address`: 16-byte units of a row are permuted by the row's number.
inline std::uintptr_t swizzled(std::uintptr_t address) { return address ^ ((address >> 7 & 7) << 4); }

// Copies a box to `to`, whose bytes arrive at `barrier`; both may be of another block of the cluster.
inline void copy_box(void* to, const TensorMap* map, int column, int row, int third, int fourth, const void* barrier) {
    require_aligned(to, 1024, "a tile in shared memory");
    require_aligned(map->data, 16, "a matrix that tiles are copied from");
    if (!is_encodable(*map)) fault("a tensor map that the hardware refuses");
    PhaseBarrier* landed = &phase_barrier(barrier);
    land_later([=, map = *map] {
        constexpr int kColumns = kTileRowBytes / 2;
        const bool there = third < map.thirds && fourth < map.fourths;
        const std::uint16_t* matrix = map.data + third * map.third_stride + fourth * map.fourth_stride;
        for (int r = 0; r < map.box_rows; ++r) {
            for (int c = 0; c < kColumns; ++c) {
                const std::int64_t y = row + r, x = column + c;
                const bool inside = there && 0 <= y && y < map.rows && 0 <= x && x < map.columns;
                const std::uint16_t value = inside ? matrix[y * map.row_stride + x] : 0;
                const auto place = reinterpret_cast<std::uintptr_t>(to) + static_cast<std::uintptr_t>(r * 128 + c * 2);
                auto* lands = reinterpret_cast<void*>(swizzled(place));
                std::memcpy(lands, &value, 2);
                std::memcpy(async_view(lands, 2), &value, 2);
            }
        }
        landed->advance(0, -map.box_rows * kTileRowBytes);
    });
}

}  // namespace emulator

inline void copy_tile(void* to, const TensorMap* map, int column, int row, int third, int fourth, MBarrier* barrier) {
    emulator::copy_box(to, map, column, row, third, fourth, barrier);
}

inline void copy_tile(void* to, const TensorMap* map, int column, int row, MBarrier* barrier) {
    emulator::copy_box(to, map, column, row, 0, 0, barrier);
}

inline void copy_bulk(void* to, const void* from, int bytes, MBarrier* barrier) {
    emulator::require_aligned(to, 16, "cp.async.bulk to shared memory");
    emulator::require_aligned(from, 16, "cp.async.bulk from global memory");
    if (bytes <= 0 || bytes % 16 != 0) emulator::fault("cp.async.bulk of " + std::to_string(bytes) + " bytes");
    emulator::PhaseBarrier* landed = &emulator::phase_barrier(barrier);
    emulator::land_later([to, from, bytes, landed] {
        const auto size = static_cast<std::size_t>(bytes);
        std::memcpy(to, from, size);
        std::memcpy(emulator::async_view(to, size), from, size);
        landed->advance(0, -bytes);
    });
}

}  // namespace sparsecore::cuda
