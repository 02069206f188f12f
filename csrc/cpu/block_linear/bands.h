// The order of values for blocks of 8 rows and more. A block row of r rows is cut into bands of up to 32; a band keeps
// its part of every block of the block row, one after another, so that it is read in one sweep:
//
//     block row 0, band 0                   | band 1 ...       | block row 1 ...
//     block 0: step 0 | step 1 | .. | block 1: step 0 | ..
//              step: [height] weights of one input, or (bf16 with even c) [height][2] weights of two inputs: a 32-bit
//              lane then holds what vdpbf16ps multiplies by a 32-bit pair of activations
#pragma once

#include "cpu/block_linear/block_linear.h"

namespace sparsecore::cpu {

constexpr int64_t kBandRows = 32;
// A kernel loads whole vectors: past the last value it may read this much (and never uses it).
constexpr int64_t kBandSlack = 128;

static inline int64_t step_inputs(core::DType dtype, int64_t block_cols) {
    return dtype == core::DType::BF16 && block_cols % 2 == 0 ? 2 : 1;
}

// Rows of the band that begins at row `first` of a block.
static inline int64_t band_height(int64_t block_rows, int64_t first) {
    return block_rows - first < kBandRows ? block_rows - first : kBandRows;
}

// Where that band begins, in values, for a block row whose blocks are begin .. end - 1.
static inline int64_t band_index(const BlockWeight& w, int64_t begin, int64_t end, int64_t first) {
    return (begin * w.block_rows + (end - begin) * first) * w.block_cols;
}

void block_linear_bands_avx2(const LinearCall& call, const BlockWeight& weight);
void block_linear_bands_avx512(const LinearCall& call, const BlockWeight& weight);

}  // namespace sparsecore::cpu
