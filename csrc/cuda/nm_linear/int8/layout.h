// int8 and fp8 2:4 weights as tensor cores multiply them: three sections of a resident buffer.
//
//   values    [row tiles, column tiles, 2, 32 lanes, 16]: a tile is 16 rows x 128 columns, a half of it 64 columns, of which 32 are kept.
//             With g = lane / 4, t = lane % 4, a lane holds the kept values 4t to 4t + 3 of row g, of row g+8, then 16 + 4t to
//             16 + 4t + 3 of row g and of row g+8: fragment A of mma.sp.m16n8k64.
//   metadata  [row tiles, column tiles, 2, 32 lanes] u32: lane (g, t) has row g + 8 (t % 2) and 16 kept values of it from 16 (t / 2) on;
//             two bits each, the place in the group, ascending.
//   scales    [rows] fp32: weight = value * scale of its row
//
// Rows and columns that fill up the last tiles keep zeros at places 0 and 1 of their groups.
#pragma once

#include "core/span.h"
#include "cuda/nm_linear/int8/args.h"
#include "formats/resident.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

constexpr int kInt8TileColumns = 128;

// Whether a weight is laid out so: int8 or fp8 and 2:4, and so large that what fills up the last tiles adds little (cuda/resident.h).
bool is_two_four_bytes(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m);

formats::Sections int8_sections(int64_t rows, int64_t cols);

// A validated stored weight -> its sections, which hold zeros; and back into the stored form's own tensors.
void fill_int8(const formats::Stored& stored, const formats::Resident& out);
void read_int8(const formats::Resident& resident, const formats::Stored& out);

}  // namespace sparsecore::cuda
