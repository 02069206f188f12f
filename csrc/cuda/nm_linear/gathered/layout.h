// V:N:M weights for many tokens: 2:8 and 2:16 weights of 16-bit elements in which every block of 64 or 128 rows uses at most four
// columns of each group (Castro et al., VENOM, SC 2023). The four columns make a 2:4 weight, a half or a quarter as wide. Sections:
//
//   values, metadata  of that weight, as two_four/layout.h lays it out
//   chosen            [row blocks, column tiles, 16 groups] u16: the four columns, as places in their group of 4 bits each, ascending.
//                     Where a block uses fewer, others fill up; beyond the last group there are the places 0 to 3.
//
// A weight takes 2.25 bytes a kept value and 2 for each group of a block.
#pragma once

#include "core/span.h"
#include "cuda/nm_linear/gathered/args.h"
#include "formats/resident.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

// Rows of the blocks by which a validated weight can be laid out so: 128, 64, or 0 where it cannot.
int gathered_block_rows(const formats::Stored& stored);

formats::Sections gathered_sections(int64_t rows, int64_t cols, int64_t m, int block_rows);

// A validated stored weight that fits -> its sections, which hold zeros; and back into the stored form's own tensors.
void fill_gathered(const formats::Stored& stored, int block_rows, const formats::Resident& out);
void read_gathered(const formats::Resident& resident, int block_rows, const formats::Stored& out);

}  // namespace sparsecore::cuda
