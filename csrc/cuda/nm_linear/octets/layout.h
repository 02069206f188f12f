// 1:4, 1:8 and 2:8 weights of 16-bit elements for few tokens: one or two kept values in every octet, 8 consecutive columns.
//
// A tile is 16 rows x kOctetColumns columns with 16 kept values a row, in steps of 32 columns. With g = lane / 4, t = lane % 4, a lane
// holds octet t of every step, of the rows g and g + 8. Its 8 values and their codes (positions in a group) stand in the same
// order: by step, row g before g + 8, then by column. Sections of a resident buffer:
//
//   values      [row tiles, column tiles, 32 lanes, 8] elements
//   codes       [row tiles, column tiles, 32 lanes] u16: the low 16 bits of the lane's 8 codes, of 2 (1:4) or 3 bits each
//   high codes  [row tiles, column tiles, 32 lanes] u8: their high 8 bits; none for 1:4
//
// so that a weight takes 2.25 (1:4) or 2.375 (1:8, 2:8) bytes a kept value, read in pieces of 512 + 64 + 32 consecutive bytes.
// What fills up the last tiles is zero, but that the codes of two values of an octet differ where one of them is kept.
#pragma once

#include "core/span.h"
#include "cuda/nm_linear/octets/place.h"
#include "formats/resident.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

// Whether a weight is laid out so: one of the three patterns, bf16 or fp16, and so large that what fills up the last tiles adds
// little (cuda/resident.h).
bool is_octets(core::DType dtype, int64_t rows, int64_t cols, int64_t n, int64_t m);

formats::Sections octet_sections(int64_t rows, int64_t cols, int64_t n, int64_t m);

// A validated stored weight -> its sections, which hold zeros; and back into the stored form's own tensors.
void fill_octets(const formats::Stored& stored, const formats::Resident& out);
void read_octets(const formats::Resident& resident, const formats::Stored& out);

}  // namespace sparsecore::cuda
