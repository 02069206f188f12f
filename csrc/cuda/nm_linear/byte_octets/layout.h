// int8 and fp8 weights of 1:4, 1:8 and 2:8 for few tokens: one or two kept values in every octet, 8 consecutive columns.
//
// A tile is 16 rows x byte_octet_columns() columns with 32 kept values a row, in steps of 32 columns. With g = lane / 4, t = lane % 4, a lane
// holds octet t of every step, of the rows g and g + 8: 16 values by step, row g before g + 8, column. Sections of a resident buffer:
//
//   values      [row tiles, column tiles, 32 lanes, 16] bytes
//   codes       [row tiles, column tiles, 32 lanes] u32: two bits of the codes (positions in a group) of the lane's values. Those of the values
//               that are byte b of their words stand in byte b, by word: one mask serves four
//   high codes  [row tiles, column tiles, 32 lanes] u16; none for 1:4. 2:8: the highest bits of the codes, in an order that a shift makes that
//               of `codes`. 1:8: their lowest bits, in the same order of the octets whose metadata the lane gives to mma.sp: of row
//               g + 8 (t % 2), four from 4 (t / 2) on of every 64 columns
//   scales      [rows] fp32: weight = value * scale of its row
//
// so that a weight takes 1.25 (1:4) or 1.375 (1:8, 2:8) bytes a kept value, read in pieces of 512 + 128 + 64 consecutive bytes.
// What fills up the last tiles is zero, but that the codes of two values of an octet differ where one of them is kept.
#pragma once

#include "core/span.h"
#include "cuda/nm_linear/byte_octets/place.h"
#include "formats/resident.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

// Whether a weight is laid out so: one of the three patterns, int8 or fp8, and so large that what fills up the last tiles adds little
// (cuda/resident.h).
bool is_byte_octets(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m);

formats::Sections byte_octet_sections(int64_t rows, int64_t cols, int64_t n, int64_t m);

// A validated stored weight -> its sections, which hold zeros; and back into the stored form's own tensors.
void fill_byte_octets(const formats::Stored& stored, const formats::Resident& out);
void read_byte_octets(const formats::Resident& resident, const formats::Stored& out);

}  // namespace sparsecore::cuda
