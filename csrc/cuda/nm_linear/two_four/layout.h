// 2:4 weights of 16-bit elements as tensor cores multiply them: two sections of a resident buffer.
//
//   values    [row tiles, column tiles, 2, 32 lanes, 8]: a tile is 16 rows x 64 columns, a half of it 32 columns, of which 16 are
//             kept. With g = lane / 4, t = lane % 4, a lane holds the kept values 2t, 2t+1 of row g, of row g+8, then 2t+8,
//             2t+9 of row g and of row g+8: fragment A of mma.sp.m16n8k32.
//   metadata  [row tiles, column tiles, 32 lanes] u32: lane (g, t) has the 16 columns from 16 t on; the low half word for row
//             g, the high one for row g+8; two bits for each kept value, its place in its group, ascending.
//
// Rows and columns that fill up the last tiles keep zeros at places 0 and 1 of their groups. A warp reads a tile in three
// consecutive pieces: 512 + 512 + 128 bytes.
#pragma once

#include "core/span.h"
#include "cuda/nm_linear/two_four/args.h"
#include "formats/resident.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

// Whether a weight is laid out so: 2:4, bf16 or fp16, and so large that what fills up the last tiles adds little (cuda/resident.h).
bool is_two_four(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m);

formats::Sections two_four_sections(int64_t rows, int64_t cols);

// A validated stored weight -> its sections, which hold zeros; and back into the stored form's own tensors, which do.
void fill_two_four(const formats::Stored& stored, const formats::Resident& out);
void read_two_four(const formats::Resident& resident, const formats::Stored& out);

}  // namespace sparsecore::cuda
