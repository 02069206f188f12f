// Block-sparse weights on the device: the sections of a resident buffer.
//
//   values       [blocks][height * width] in the stored order of the blocks; for tensor cores the order within a block is that of place.h
//   columns      int32 [blocks] and
//   row_offsets  int64 [block rows + 1]: the index tables of the stored form
//
// and where tensor cores multiply them (16-bit elements; heights and widths of 16, 32, 64 and 128):
//
//   band_rows    int32 [bands, 128 / height]: the block rows that one block of threads computes together, 128 output rows, or -1.
//                Block rows are sorted by how many blocks they keep, the fullest first, so that the rows of a band
//                are about as long as each other and long bands start early.
//   band_steps   int64 [bands + 1] into the steps
//   steps        u32 [blocks], of which as many as needed: the block columns that a band keeps anything of, ascending, times 256, plus a bit for
//                each 16 rows that do. Activations are read once a step, whatever number of block rows multiply them.
//
// The lengths of all sections follow from shape and number of blocks, so a call needs no byte of the device's copy.
#pragma once

#include "core/span.h"
#include "cuda/block_linear/args.h"
#include "formats/resident.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

// Whether the tensor-core kernels run such blocks.
bool block_fits_tensor_cores(core::DType dtype, int64_t height, int64_t width);

// ShapeError where a size is out of the kernels' range.
formats::Sections block_sections(const formats::Geometry& geometry);

// A validated stored weight -> its sections, which hold zeros; and back into the stored form's own tensors. ResidentError where
// a table is not what fill_block makes of the weight.
void fill_block(const formats::Stored& stored, const formats::Resident& out);
void read_block(const formats::Resident& resident, const formats::Stored& out);

}  // namespace sparsecore::cuda
