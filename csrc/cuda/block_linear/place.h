// Where the elements of a block lie, for the packer and the kernels.
#pragma once

#include "cuda/block_linear/args.h"
#include "cuda/common/words.h"
#include "cuda/ptx/thread.h"

namespace sparsecore::cuda::block {

// Columns that lie together: a block is cut into slabs of at most 64 columns, [slabs][height][slab].
SC_DEVICE int slab_width(int width) { return width < kSlabColumns ? width : kSlabColumns; }

// Element at which 8 consecutive columns of row `y` start within their block; `unit`: the first column / 8. Within lines of 128 bytes
// the units are exchanged by the line's number in the order that TMA calls a swizzle of 128, 64 or 32 bytes, so that the
// same bytes are what wgmma expects in shared memory and what ldmatrix reads without bank conflicts.
SC_DEVICE int unit_place(int height, int width, int y, int unit) {
    const int slab = slab_width(width), units = slab / kUnit;
    const int within = (unit % units) ^ (y * units / 8 % units);
    return (unit / units * height + y) * slab + within * kUnit;
}

}  // namespace sparsecore::cuda::block
