// Unstructured weights on the device: the sections of a resident buffer.
//
// A tile is 16 rows x 64 columns, tiles lie row after row. With g = lane / 4, t = lane % 4, the 32 elements of a lane are the columns
// 16t to 16t + 15 of rows g and g + 8: four consecutive columns 16t + 4j, ... of row g + 8i form its quad number 2j + i. The elements of a
// tile are numbered quad by quad, lane by lane: (quad * 32 + lane) * 4 + column % 4.
//
//   values  the kept values of a tile in this order, from a multiple of 16 bytes on
//   masks   u32 [tiles, 32]: bit i of word w says whether element 32w + i is kept
//   starts  u32 [tiles + 1]: where a tile's values start, in units of 16 bytes
//
// A warp reads a tile in two consecutive pieces. A lane finds its values by counting the bits before its own. At density d that is 2d +
// 1/8 bytes an element of 16 bits, and 1/256 for the starts. The lengths of all sections follow from shape and number of values.
#pragma once

#include "core/span.h"
#include "cuda/bitmask_linear/args.h"
#include "formats/resident.h"
#include "formats/stored.h"

namespace sparsecore::cuda {

// ShapeError where a size is out of the kernels' range.
formats::Sections bitmask_sections(const formats::Geometry& geometry);

// A validated stored weight -> its sections, which hold zeros; and back into the stored form's own tensors. ResidentError where
// masks or starts are not what fill_bitmask makes of a weight.
void fill_bitmask(const formats::Stored& stored, const formats::Resident& out);
void read_bitmask(const formats::Resident& resident, const formats::Stored& out);

}  // namespace sparsecore::cuda
