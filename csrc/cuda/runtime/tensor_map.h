// Tensor maps for tile copies; for .cu files. The emulator has its own.
#pragma once

#include <cstdint>

#include "cuda/ptx/tma.h"

namespace sparsecore::cuda {

// A matrix of 16-bit elements in device memory: rows of `columns` consecutive elements, row_stride apart (a multiple of 8,
// at least `columns`), from a multiple of 16 bytes on. Boxes of box_rows (at most 256) x 64 elements land in the 128-byte swizzle, zeros outside the matrix.
// The driver's encoder is fetched, not linked. DriverError without a driver that has it.
TensorMap matrix_map(const void* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride, int box_rows);

// Many such matrices of one size, counted by two indices whose strides are positive multiples of 8 elements.
struct Matrices {
    std::int64_t rows, columns, row_stride;
    std::int64_t thirds, third_stride, fourths, fourth_stride;
};
TensorMap matrices_map(const void* data, const Matrices& matrices, int box_rows);

}  // namespace sparsecore::cuda
